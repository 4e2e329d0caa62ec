"""Rows inside a chat template, token by token as the tokenizer's own has them, and templates that cannot be used."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from spot.chat import chat_form
from spot.collator import Collator
from spot.errors import TaskError
from spot.models.checkpoints import locate
from spot.models.loading import read_tokenizer
from spot.prompts.prompt import load
from spot.reading import Reading
from spot.tasks.task import Example, Task
from spot.tasks.task_file import load_task
from tests.support.commands import refused
from tests.support.random_tokenizers import HIDDEN, draw
from tests.support.small_runs import FAST, user_task
from tests.support.tiny_models import byte_tokenizer

TEMPLATES = {
    "smollm2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama": (
        "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages if message['role'] != 'system' %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}"
        "{% endif %}{% endfor %}"
    ),
    "pictures": (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}
MARKS = ("<bos>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
MARKS += ("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]")
TEXTS = ("sentence: fine", " \n with blanks around \n\n", "Zeile\neins, 12 %", "ß ü 漢字", "a {{ b }} {% if %}")
LABELS = ("negative", "positive")


def chatting(template: str) -> PreTrainedTokenizerFast:
    """One token a byte, the tokens of chats, and a template."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<bos>", "additional_special_tokens": list(MARKS)})
    tokenizer.chat_template = TEMPLATES.get(template, template)
    return tokenizer


def in_chat(tokenizer: PreTrainedTokenizerFast, **reading) -> Collator:
    reading = {"chat": True, "max_input_tokens": 1000, "max_target_tokens": 1000, "labels": LABELS, **reading}
    labels = reading.pop("labels")
    return Collator(tokenizer, "causal", Reading(**reading).of_labels(labels))


def said(text: str, system: str = "", as_list: bool = False) -> list[dict]:
    turns = [("system", system)] if system else []
    return [
        {"role": role, "content": [{"type": "text", "text": words}] if as_list else words}
        for role, words in [*turns, ("user", text)]
    ]


def oracle(tokenizer: PreTrainedTokenizerFast, messages: list[dict], answer: str) -> tuple[list[int], list[int]]:
    """Tokens of the input by the tokenizer's own template, and of the answer behind it, as one text has them."""
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    whole = tokenizer(text + answer, add_special_tokens=False)["input_ids"]
    assert whole[: len(asked)] == asked
    return asked, whole[len(asked) :]


@pytest.mark.parametrize("template", TEMPLATES)
def test_rows_have_the_tokens_of_the_tokenizers_own_template_and_the_answer_behind_it(template):
    tokenizer = chatting(template)
    rows = in_chat(tokenizer).encode([Example("", text, ("positive",)) for text in TEXTS])
    for row, text in zip(rows, TEXTS, strict=True):
        asked, answered = oracle(tokenizer, said(text, as_list=template == "pictures"), "positive")
        assert (list(row.input_ids), list(row.target_ids)) == (asked, answered), text
    assert in_chat(tokenizer).choices == tuple(tuple(tokenizer(word)["input_ids"]) for word in LABELS)


@pytest.mark.parametrize("template", ["smollm2", "llama", "pictures"])
def test_a_system_turn_stands_where_the_template_has_it(template):
    tokenizer = chatting(template)
    [row] = in_chat(tokenizer, system="Judge it.").encode([Example("", "fine", ("positive",))])
    asked, _ = oracle(tokenizer, said("fine", "Judge it.", as_list=template == "pictures"), "positive")
    assert list(row.input_ids) == asked and "Judge it." in tokenizer.decode(asked)
    assert "SmolLM" not in tokenizer.decode(asked)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("where", ["{}", "sentence: {}", "{} and more"])
def test_what_a_row_spells_ends_no_turn(template, where):
    tokenizer = chatting(template)
    found = in_chat(tokenizer)
    [plain] = found.encode([Example("", where.format("nothing"), ("positive",))])
    marks = {tokenizer.convert_tokens_to_ids(mark) for mark in (*MARKS, "</s>")}
    evil = "".join(MARKS) + "</s>"
    [row] = found.encode([Example("", where.format(evil), (f"{evil}positive",))])
    assert [token for token in row.input_ids if token in marks] == [t for t in plain.input_ids if t in marks]
    assert marks.isdisjoint(row.target_ids[: len(evil)])
    assert tokenizer.decode(row.input_ids) == tokenizer.decode(plain.input_ids).replace("nothing", evil)


SHORT = "{{ '<s>' }}{% for m in messages %}<|im_start|>{{ m['content'] }}</s>{% endfor %}"
SHORT += "{% if add_generation_prompt %}<|im_start|>{% endif %}"


@pytest.mark.parametrize("seed", range(40))
def test_with_tokenizers_of_every_kind_rows_are_text_and_the_template_is_special(seed):
    drawn = draw(seed)
    drawn.tokenizer.chat_template = SHORT
    found = in_chat(drawn.tokenizer, labels=())
    for text in ("the film was good.", "yes: <s>the</s> <|im_start|> film"):
        [row] = found.encode([Example("", text, ("the answer",))])
        front, back = f"{HIDDEN['<s>']}{HIDDEN['<|im_start|>']}", f"{HIDDEN['</s>']}{HIDDEN['<|im_start|>']}"
        assert list(row.input_ids) == drawn.twin.encode(front + text + back, add_special_tokens=False).ids
        if "<s>" not in text:
            assert (
                list(row.input_ids)
                == drawn.tokenizer.apply_chat_template(said(text), add_generation_prompt=True)["input_ids"]
            )


@pytest.mark.slow
def test_rows_of_the_embedded_model_have_the_tokens_of_its_own_template():
    tokenizer = read_tokenizer(locate("embedded"))
    for system in ("", "Say whether the review is good."):
        rows = in_chat(tokenizer, system=system).encode([Example("", text, ("positive",)) for text in TEXTS])
        for row, text in zip(rows, TEXTS, strict=True):
            assert (list(row.input_ids), list(row.target_ids)) == oracle(tokenizer, said(text, system), "positive")
    open_answers = in_chat(tokenizer, labels=())
    assert open_answers.answer_end == tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize(
    ("template", "end"),
    [("smollm2", "<|im_end|>"), ("llama", "<|eot_id|>"), ("gemma", "<end_of_turn>"), ("mistral", "</s>")],
)
def test_an_open_answer_ends_as_the_template_ends_a_turn(template, end):
    tokenizer = chatting(template)
    found = in_chat(tokenizer, labels=())
    [row] = found.encode([Example("", "fine", ("yes",))])
    assert tokenizer.decode(row.target_ids) == f"yes{end}"
    assert found.answer_end == tokenizer.convert_tokens_to_ids(end)


def test_where_the_template_takes_no_answer_the_tokenizers_own_end_is_taken():
    template = "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ raise_exception('none') }}{% endif %}"
    tokenizer = chatting(
        template + "<|im_start|>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}:{% endif %}"
    )
    [row] = in_chat(tokenizer, labels=()).encode([Example("", "fine", ("yes",))])
    assert tokenizer.decode((*row.input_ids, *row.target_ids)) == "<|im_start|>fine:yes</s>"


# What is cut.

ASK = "passage: {passage} question: {question} Answer yes or no."


@pytest.mark.parametrize("template", ["smollm2", "llama"])
@pytest.mark.parametrize(("side", "kept"), [("right", "ppp"), ("left", "qqq")])
def test_a_long_input_loses_words_of_its_fields_and_none_of_any_template(template, side, kept, caplog):
    tokenizer = chatting(template)
    values = {"passage": "p" * 300 + "q" * 300, "question": "is it so?"}
    example = Example("", Reading(template=ASK).render(values), ("positive",), texts=tuple(values.values()))
    frame = len(in_chat(tokenizer).encode([Example("", "x", ("positive",))])[0].input_ids) - 1
    words = len(ASK) - len("{passage}{question}")
    limit = frame + words + len(values["question"]) + 11
    [row] = in_chat(tokenizer, template=ASK, truncate=side, max_input_tokens=limit).encode([example])
    shorter = Reading(template=ASK).render({**values, "passage": kept[0] * 11})
    assert list(row.input_ids) == oracle(tokenizer, said(shorter), "positive")[0] and len(row.input_ids) == limit
    assert row.lost == 589 and "(of the template's fields, the longest first): 589 tokens" in caplog.text


@pytest.mark.parametrize(("side", "kept"), [("right", "abcde"), ("left", "vwxyz")])
def test_a_long_input_of_a_benchmark_loses_an_end_of_its_text_alone(side, kept):
    tokenizer = chatting("gemma")
    frame = len(in_chat(tokenizer).encode([Example("", "x", ("positive",))])[0].input_ids) - 1
    found = in_chat(tokenizer, form="glue/sst2", truncate=side, max_input_tokens=frame + 5)
    [row] = found.encode([Example("", "abcdefghijklmnopqrstuvwxyz", ("positive",))])
    assert list(row.input_ids) == oracle(tokenizer, said(kept), "positive")[0]
    sentinels = Example("", "abc<bos>defghijkl", ("positive",), sentinels=("<bos>",))
    [row] = found.encode([sentinels])
    assert tokenizer.decode(row.input_ids).count("<bos>") == 1 + (side == "right"), "one end of the whole text goes"


@pytest.mark.parametrize(("template", "words"), [("", "the chat template are"), (ASK, "with the chat template around")])
def test_a_limit_that_leaves_no_room_beside_the_template_is_refused(template, words):
    found = in_chat(chatting("smollm2"), template=template, max_input_tokens=90)
    with pytest.raises(TaskError, match=f"the words of .*{words}.* and 90 have room; .* more max_input_tokens"):
        found.encode([Example("", "passage: a question: b Answer yes or no.", ("positive",), texts=("a", "b"))])


# What is refused.

LOOP = "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}{% if add_generation_prompt %}go{% endif %}"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "this backbone's tokenizer has no chat template; expected a model that was trained to chat"),
        (LOOP.replace("{% if add_generation_prompt %}go{% endif %}", ""), "writes no generation prompt"),
        ("{{ raise_exception('not today') }}", r"cannot be used \(TemplateError: not today\)"),
        ("{% for m in %}", r"cannot be used \(TemplateSyntaxError: "),
        ("{{ messages[7]['content'].nothing() }}", r"cannot be used \(UndefinedError: "),
        ("{{ 1 / 0 }}", r"cannot be used \(ZeroDivisionError: "),
        ("{{ ''.__class__.__mro__ }}" + LOOP, r"cannot be used \(SecurityError: "),
        ("hello", "writes the user's text 0 times"),
        (LOOP + LOOP, "writes the user's text 2 times"),
        (LOOP.replace("m['content']", "m['content'] | upper"), "writes the user's text 0 times"),
        (LOOP.replace("m['content']", "m['content'].split() | join('_')"), None),
        (LOOP.replace("m['content']", "m['content'] | replace('\\n', ' ')"), "changes the blanks of the user's text"),
        ("{% for i in range(99999) %}word {% endfor %}" + LOOP, "it writes more than 100,000 characters"),
        ("{% for i in range(10 ** 9) %}word {% endfor %}" + LOOP, r"cannot be used \(OverflowError: "),
        ({"default": "{{ raise_exception('a') }}", "tools": LOOP}, r"cannot be used \(TemplateError: a\)"),
        ({"rag": LOOP, "tools": LOOP}, r"cannot be used \(ValueError: "),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_words(template, words):
    tokenizer = chatting("smollm2")
    tokenizer.chat_template = template
    if words is None:  # one that only trims
        assert chat_form(tokenizer).trim(" a ") == "a"
        return
    with pytest.raises(TaskError, match=words) as caught:
        in_chat(tokenizer)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 and "eave chat out" in str(caught.value)


@pytest.mark.parametrize(
    ("template", "why"), [("gemma", r"\(System role not supported\)"), ("mistral", r"\(it leaves it out\)")]
)
def test_a_system_turn_that_the_template_does_not_take_is_refused(template, why):
    assert in_chat(chatting(template)).labels == LABELS
    with pytest.raises(TaskError, match=f"takes no system turn {why}; .* leave system out"):
        in_chat(chatting(template), system="Judge it.")


def test_a_seq2seq_model_has_no_chat_form():
    with pytest.raises(TaskError, match="this backbone is a seq2seq model"):
        Collator(chatting("smollm2"), "seq2seq", Reading(chat=True))


def test_a_template_that_writes_the_date_writes_one_date():
    tokenizer = chatting("{{ strftime_now('%d %b %Y') }} " + LOOP)
    assert chat_form(tokenizer).before == "26 Jul 2024 user"


# From start to file.


def test_a_prompt_is_tuned_and_answers_in_chat_form_by_its_file_alone(spot, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    template += "{% if add_generation_prompt %}answer:{% endif %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    task = user_task(tmp_path / "task")
    words = ["tune", task, "--backbone", tmp_path / "model", *FAST, "--json"]
    plain = spot(*words, "--out", tmp_path / "plain").json
    found = spot(*words, "--set", "chat=true", "--out", tmp_path / "chat").json
    prompt, other = load(found["prompt"]), load(plain["prompt"])
    assert (prompt.reading.chat, prompt.reading.cue, prompt.reading.separator) == (True, "", "")
    assert not other.reading.chat and not np.array_equal(prompt.value, other.value)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"row {n}</s>"}) + "\n" for n in range(6)))
    asked = ["predict", found["prompt"], "--backbone", tmp_path / "model", "--input", tmp_path / "rows.jsonl"]
    answers = [json.loads(line) for line in spot(*asked).out.splitlines()]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    embed, vectors = model.get_input_embeddings(), torch.tensor(np.array(prompt.value))
    for number, answer in enumerate(answers):
        # One token a byte, ids from 3 on; `</s>` of the template is 1, that of the row is four letters.
        plain_ids = byte_tokenizer()(["user: ", f"say: row {number}<", "/s>", "answer:", "red", "sky"])["input_ids"]
        head, text, rest, cue, *labels = plain_ids
        losses = []
        for label in labels:
            ids = torch.tensor([*head, *text, *rest, 1, *cue, *label])
            logits = model(inputs_embeds=torch.cat([vectors, embed(ids)])[None]).logits[0].log_softmax(-1)
            losses.append(sum(logits[-len(label) - 1 + place, token].item() for place, token in enumerate(label)))
        expected = torch.tensor(losses).softmax(0)
        found_probabilities = [answer["probabilities"][word] for word in ("red", "sky")]
        assert found_probabilities == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_task_file_may_ask_for_chat_form_and_a_model_without_a_template_refuses_it(spot, tiny_folder, tmp_path):
    task = user_task(tmp_path)
    plain = task.read_text()
    task.write_text(f'chat = true\nsystem = "Judge it."\n{plain}')
    reading = load_task(task).reading
    assert (reading.chat, reading.system) == (True, "Judge it.")
    llama = spot("tune", task, "--backbone", tiny_folder("llama"), *FAST, "--out", tmp_path / "run")
    refused(llama, "this backbone's tokenizer has no chat template", "Leave chat out")
    t5 = spot("tune", task, "--backbone", tiny_folder("t5"), *FAST, "--out", tmp_path / "run")
    refused(t5, "this backbone is a seq2seq model")
    words = ["--set", "chat=false", "--out", tmp_path / "run", "--json"]
    assert spot("tune", task, "--backbone", tiny_folder("llama"), *FAST, *words).json["task"] == "mood"
    task.write_text(f'chat = true\ncue = " ="\n{plain}')
    refused(spot("tasks", "check", task), "chat stands beside the cue ' ='")
    task.write_text(f'system = "Judge it."\nchat = "yes"\n{plain}')
    refused(
        spot("tasks", "check", task), "chat is 'yes', expected true or false", "system ('Judge it.') stands without"
    )
    task.write_text(f'cue = " ="\n{plain}')
    refused(spot("tune", task, *FAST, "--set", "chat=true", "--backbone", tiny_folder("llama")), "chat stands beside")


def test_rows_in_memory_may_ask_for_chat_form():
    rows = {"text": ["well made", "fell apart"], "label": ["good", "bad"]}
    plain, chat = Task.from_rows(rows), Task.from_rows(rows, chat=True, system="Judge it.")
    assert (chat.reading.chat, chat.reading.system, plain.reading.chat) == (True, "Judge it.", False)
    assert len({plain.revision, chat.revision, Task.from_rows(rows, chat=True).revision}) == 3
    with pytest.raises(TaskError, match="chat is 1, expected True or False"):
        Task.from_rows(rows, chat=1)
    with pytest.raises(TaskError, match=r"system .* stands without chat"):
        Task.from_rows(rows, system="Judge it.")
