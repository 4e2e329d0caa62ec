from spot.serving.requests import Refusal, Served


def test_the_model_alone_has_no_digest_and_no_prompt_tokens():
    alone = Served("base", None)
    assert (alone.digest, alone.length) == ("", 0)


def test_a_refusal_says_when_to_try_again():
    refusal = Refusal("200 rows wait; expected at most 100. Try again.", 429, "busy", retry_after=1.0)
    assert (refusal.status, refusal.code, refusal.retry_after) == (429, "busy", 1.0)
