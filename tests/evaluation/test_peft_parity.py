"""A prompt says the same here and in PEFT, with its own words: trained there and imported, or here and exported."""

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from spot.config import TuneConfig
from spot.evaluation.door import predict
from spot.interchange import export_peft, foreign_reading, import_peft
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt, reading_of
from spot.reading import Reading
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task
from spot.training.tuning import tune_prompt

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks for it

WORDS = ("complaint", "no complaint")
TWEETS = ["the parcel is late", "lovely weather", "you charged me {twice}", "see you at the concert"]
TEMPLATE = "Tweet text : {Tweet text} Label :"
TASK_TYPES = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def log_probability(model: peft.PeftModel, tokenizer: PreTrainedTokenizerBase, text: str, answer: str) -> float:
    """Of an answer with an end token behind an input, nats, as PEFT computes it; the whole row stands alone."""
    target = [*ids_of(tokenizer, answer), tokenizer.eos_token_id]
    if model.peft_config["default"].task_type == "SEQ_2_SEQ_LM":
        rows = {"input_ids": torch.tensor([tokenizer(text)["input_ids"]]), "labels": torch.tensor([target])}
        logits = model(**rows).logits[0]
    else:
        source = ids_of(tokenizer, text)
        logits = model(input_ids=torch.tensor([source + target])).logits[0, -len(target) - 1 : -1]
    return float(logits.log_softmax(-1)[range(len(target)), target].sum())


@pytest.fixture
def backbone(tiny_folder: Callable[[str], Path], request: pytest.FixtureRequest) -> Backbone:
    return Backbone.load(str(tiny_folder(request.param)))


@pytest.mark.parametrize("backbone", ["llama", "gpt2", "t5"], indirect=True)
def test_a_prompt_that_peft_trained_answers_here_as_there(tiny, backbone: Backbone, tmp_path: Path):
    family = backbone.model.config.model_type
    base, tokenizer = tiny(family)
    torch.manual_seed(0)
    config = peft.PromptTuningConfig(task_type=TASK_TYPES[backbone.id.kind], num_virtual_tokens=4)
    model = peft.get_peft_model(base, config)
    optimiser = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad], lr=0.1)
    for number in range(4):
        text, answer = TEMPLATE.replace("{Tweet text}", TWEETS[number]), ids_of(tokenizer, " " + WORDS[number % 2])
        source = ids_of(tokenizer, text)
        if backbone.id.kind == "seq2seq":
            loss = model(input_ids=torch.tensor([source]), labels=torch.tensor([answer])).loss
        else:
            labels = torch.tensor([[-100] * len(source) + answer])
            loss = model(input_ids=torch.tensor([source + answer]), labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval().save_pretrained(tmp_path / "adapter")

    _, reading = foreign_reading("tweets", template=TEMPLATE, labels=WORDS, end="always", separator=" ")
    prompt = import_peft(tmp_path / "adapter", backbone.id, "tweets", reading=reading)
    path = prompt.save(tmp_path / "tweets.safetensors")
    with torch.no_grad():
        expected = [
            [log_probability(model, tokenizer, TEMPLATE.replace("{Tweet text}", tweet), f" {word}") for word in WORDS]
            for tweet in TWEETS
        ]
    answers = predict(SoftPrompt.load(path), backbone, [{"Tweet text": tweet} for tweet in TWEETS])
    assert predict(prompt, backbone, TWEETS) == answers
    for answer, logs in zip(answers, expected, strict=True):
        assert answer.log_probabilities == pytest.approx(logs, abs=1e-4)
        assert answer.text == WORDS[logs.index(max(logs))]
        assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("cue", ["", None, " =>"])
@pytest.mark.parametrize("backbone", ["llama", "t5"], indirect=True)
def test_a_prompt_that_was_trained_here_answers_there_as_here(
    tiny, backbone: Backbone, tmp_path: Path, cue: str | None
):
    labels = tuple((word, word) for word in WORDS)
    reading = Reading(template=TEMPLATE, cue=cue, labels=labels, end="always")
    examples = tuple(
        Example(str(number), reading.render({"Tweet text": tweet}), (WORDS[number % 2],), texts=(tweet,))
        for number, tweet in enumerate(TWEETS)
    )
    task = Task("tweets", lambda split: iter(examples), ("train",), WORDS, ("accuracy",), reading=reading)
    config = TuneConfig(task="tweets", length=4, steps=3, batch_size=2, eval_every=3, learning_rate=0.1)
    prompt = tune_prompt(config, task, backbone, Splits(examples, examples, ()), out=tmp_path / "run")
    folder = export_peft(prompt, tmp_path / "adapter")
    base, tokenizer = tiny("llama" if backbone.id.kind == "causal" else "t5")
    model = peft.PeftModel.from_pretrained(base, folder).eval()
    words = reading_of(import_peft(folder, backbone.id, "tweets"))
    assert words == reading_of(prompt)
    answers = predict(prompt, backbone, TWEETS)
    with torch.no_grad():
        for tweet, answer in zip(TWEETS, answers, strict=True):
            text = words.render({"Tweet text": tweet}) + (words.cue or "")
            logs = [log_probability(model, tokenizer, text, f"{words.separator}{word}") for word in words.words]
            assert answer.log_probabilities == pytest.approx(logs, abs=1e-4)
