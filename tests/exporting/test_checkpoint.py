"""A copy with baked prompts, loaded by plain transformers, answers as the model does with its prompts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from spot.collator import collator_of_reading
from spot.errors import BackboneError, PromptError, StorageError
from spot.exporting import Baked, export_checkpoint
from spot.models.backbone import Backbone
from spot.models.loading import Architecture
from spot.prompts.prompt import SoftPrompt, reading_of
from spot.reading import Reading
from spot.tasks.task import Example
from tests.support.baked_models import READING, TEXT, prompts_for
from tests.support.families import FAMILIES
from tests.support.tiny_models import SEQ2SEQ

CAUSAL = ("llama", "gpt2", "opt", "qwen2", "gemma2")  # with a byte tokenizer; free rows of their tables are taken first
OTHERS = ("gemma3_text", "gemma4_text", "granite", "phi", "bloom", "lfm2", "bart@scaled", "mt5")
# Heads that are tied, capped, scaled, on their own, and with a bias of the layer or of the model.
HEADS = ("llama", "gemma2", "t5", "t5v11", "gemma4_text", "granite", "phi", "bart@scaled")

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*attention_mask.*", "ignore:.*tie_word_embeddings.*", "ignore:.*generation flags.*"
)


@pytest.fixture(scope="module", params=[*CAUSAL, *SEQ2SEQ, *OTHERS])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_folder) -> Path:
    """A model of each family."""
    if request.param in (*CAUSAL, *SEQ2SEQ):
        return tiny_folder(request.param)
    place = tmp_path_factory.mktemp("models") / "tiny"
    FAMILIES[request.param].save(place)
    return place


def labels_alone(folder: Path, entry: Baked, first: int) -> torch.Tensor:
    """Log-probabilities of the labels among the ids before `first`, by transformers and the folder alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(entry.request.replace("{text}", TEXT), return_tensors="pt")["input_ids"]
    config = json.loads((folder / "config.json").read_text())
    is_seq2seq = config.get("is_encoder_decoder", False)
    model = (AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM).from_pretrained(folder).eval()
    scores = []
    for choice in entry.labels.values():
        answer = torch.tensor([choice])
        if is_seq2seq:
            begin = torch.tensor([[model.generation_config.decoder_start_token_id]])
            logits = model(input_ids=ids, decoder_input_ids=torch.cat([begin, answer[:, :-1]], dim=1)).logits[0]
        else:
            logits = model(input_ids=torch.cat([ids, answer[:, :-1]], dim=1)).logits[0, -len(choice) :]
        scores.append(logits[:, :first].double().log_softmax(-1).gather(1, answer.T).sum())
    return torch.stack(scores).detach()


def labels_of_engine(backbone: Backbone, prompt: SoftPrompt, first: int) -> torch.Tensor:
    """The same by the engine with the prompt itself."""
    collator = collator_of_reading(backbone, reading_of(prompt), length=prompt.length)
    batch = collator.batch(collator.encode([Example("1", READING.render({"text": TEXT}), ())]))
    vectors = torch.tensor(prompt.value)[None]
    scores = []
    for choice in collator.choices:
        beginnings = [choice[:place] for place in range(len(choice))]
        ways = [[[*beginning, token] for token in range(first)] for beginning in beginnings]
        steps = [backbone.score(batch, vectors, way)[0].double().log_softmax(0) for way in ways]
        scores.append(sum(step[token] for step, token in zip(steps, choice, strict=True)))
    return torch.stack(scores)


@torch.no_grad()
def test_a_copy_answers_as_the_model_with_its_prompts(folder: Path, tmp_path: Path):
    prompts = prompts_for(folder, {"mood": 5, "glue/x": 30})
    out, baked = export_checkpoint(prompts, tmp_path / "out", backbone=str(folder))
    backbone = Backbone.load(str(folder))
    first = baked[0].ids[0]
    assert baked[1].ids[0] == sum(baked[0].ids) and [entry.task for entry in baked] == ["mood", "glue/x"]
    for prompt, entry in zip(prompts, baked, strict=True):
        given = labels_alone(out, entry, first)
        expected = labels_of_engine(backbone, prompt, first)
        assert torch.allclose(given, expected, atol=1e-4), (given, expected)


@torch.no_grad()
@pytest.mark.parametrize("folder", HEADS, indirect=True)
def test_a_copy_never_writes_the_new_ids(folder: Path, tmp_path: Path):
    prompts = prompts_for(folder, {"mood": 5, "other": 40})
    out, baked = export_checkpoint(prompts, tmp_path / "out", backbone=str(folder))
    config = json.loads((out / "config.json").read_text())
    auto = AutoModelForSeq2SeqLM if config.get("is_encoder_decoder", False) else AutoModelForCausalLM
    model, tokenizer = auto.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    new = set(range(baked[0].ids[0], sum(baked[-1].ids)))
    ids = tokenizer(f"{baked[0].token}{TEXT}", return_tensors="pt")["input_ids"]
    start = 0 if model.config.is_encoder_decoder else ids.shape[1]
    torch.manual_seed(0)
    sampled = model.generate(
        ids, do_sample=True, temperature=5.0, num_return_sequences=16, max_new_tokens=24, pad_token_id=0
    )
    assert not new & set(sampled[:, start:].flatten().tolist())
    # A server that suppresses nothing: the head alone. Random states stand for whatever may be read.
    head = model.get_output_embeddings()
    states = 10 * torch.randn(2000, head.weight.shape[1])
    logits = head(states)
    assert not new & set(logits.argmax(dim=1).tolist())
    assert float(logits.softmax(dim=1)[:, sorted(new)].max()) <= 1 / (head.weight.shape[0] - len(new))


def test_every_other_number_of_the_model_stays(tiny_folder, tmp_path: Path):
    folder = tiny_folder("llama")
    out, baked = export_checkpoint(prompts_for(folder, {"mood": 300}), tmp_path / "out", backbone=str(folder))
    before, after = (AutoModelForCausalLM.from_pretrained(place).state_dict() for place in (folder, out))
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    assert before.keys() == after.keys()
    for name, value in before.items():
        kept = after[name][: baked[0].ids[0]] if name in tables else after[name]
        assert torch.equal(kept, value[: len(kept)] if name in tables else value), name
    assert after[tables[0]].shape == after[tables[1]].shape == (259 + 300, 32)


def test_a_begin_token_comes_behind_the_prompt(tmp_path: Path, tiny_folder):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    [prompt] = prompts_for(folder, {"mood": 5})
    backbone = Backbone.load(str(folder))
    collator = collator_of_reading(backbone, reading_of(prompt), length=5)
    assert collator.encode([Example("1", "a", ())])[0].input_ids[0] == 1
    out, [entry] = export_checkpoint([prompt], tmp_path / "out", backbone=str(folder))
    assert entry.ids[1] == 6 and "put no" not in entry.request
    with torch.no_grad():
        given = labels_alone(out, entry, entry.ids[0])
        expected = labels_of_engine(backbone, prompt, entry.ids[0])
    assert torch.allclose(given, expected, atol=1e-4)


CHAT = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_a_prompt_of_chat_form_stands_before_all_that_the_template_writes(tmp_path: Path, tiny_folder):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder)
    (folder / "chat_template.jinja").write_text(CHAT)
    reading = Reading(chat=True, system="Be brief.", labels=(("0", "no"), ("1", "yes")))
    [prompt] = prompts_for(folder, {"mood": 5}, reading)
    out, [entry] = export_checkpoint([prompt], tmp_path / "out", backbone=str(folder))
    backbone = Backbone.load(str(folder))
    collator = collator_of_reading(backbone, reading, length=5)
    [row] = collator.encode([Example("1", TEXT, ())])
    expected = [*range(entry.ids[0], entry.ids[0] + 5), *row.input_ids]
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer(entry.request.replace("{text}", TEXT))["input_ids"] == expected
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}]
    for content in ("mood", [{"type": "text", "text": "mood"}]):
        chat = [{"role": "spot", "content": content}, *turns]
        assert tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] == expected
    plain = AutoTokenizer.from_pretrained(folder).apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) == plain


def test_the_card_says_how_to_ask(tiny_folder, tmp_path: Path):
    folder = tiny_folder("llama")
    out, _ = export_checkpoint(prompts_for(folder, {"mood": 5}), tmp_path / "out", backbone=str(folder))
    card = (out / "README.md").read_text()
    for part in ("`<|spot:mood|>`", "accuracy 91.2", "<|spot:mood|>w9 {text} w7", "convert_hf_to_gguf"):
        assert part in card, part


def test_what_cannot_be_baked_is_refused_and_nothing_is_left(tiny_folder, tmp_path: Path, monkeypatch):
    folder = tiny_folder("llama")
    prompts = prompts_for(folder, {"mood": 5})
    out = tmp_path / "out"
    with pytest.raises(PromptError, match="no prompt is given"):
        export_checkpoint([], out)
    with pytest.raises(PromptError, match="belongs to the backbone"):
        export_checkpoint(prompts, out, backbone=str(tiny_folder("gpt2")))
    with pytest.raises(PromptError, match="2 prompts belong to the task 'mood'"):
        export_checkpoint([*prompts, *prompts], out, backbone=str(folder))
    export_checkpoint(prompts, tmp_path / "once", backbone=str(folder))
    with pytest.raises(PromptError, match="belongs to the backbone"):
        export_checkpoint(prompts, out, backbone=str(tmp_path / "once"))
    again = prompts_for(tmp_path / "once", {"mood": 5})
    with pytest.raises(PromptError, match=r"a token .<\|spot:mood:0\|>. already"):
        export_checkpoint(again, out, backbone=str(tmp_path / "once"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(StorageError, match=r"holds other things \(mine\)"):
        export_checkpoint(prompts, tmp_path / "full", backbone=str(folder))


def test_a_model_that_is_quantised_is_refused_before_it_is_loaded(tiny_folder, tmp_path: Path, monkeypatch):
    folder = tiny_folder("llama")
    prompts = prompts_for(folder, {"mood": 5})
    monkeypatch.setattr(Architecture, "is_quantised", property(lambda _: True))
    monkeypatch.setattr(Backbone, "load", None)
    with pytest.raises(BackboneError, match="is quantised by"):
        export_checkpoint(prompts, tmp_path / "out", backbone=str(folder))


def test_a_full_disk_is_said_and_leaves_nothing(tiny_folder, tmp_path: Path, monkeypatch):
    folder = tiny_folder("llama")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(StorageError, match="No space left on device"):
        export_checkpoint(prompts_for(folder, {"mood": 5}), tmp_path / "out", backbone=str(folder))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("qwen4_exp_text@ple", "does more with token ids than to look them up"),
        ("marian@vocabularies", "writes another vocabulary than it reads"),
        ("t5gemma2", "more than one row of its table"),
        ("fsmt", "cannot be written such that transformers loads it"),
    ],
)
def test_a_family_that_reads_ids_in_other_ways_is_refused(family: str, reason: str, tmp_path: Path):
    folder = tmp_path / "model"
    FAMILIES[family].save(folder)
    with pytest.raises(BackboneError, match=reason):
        export_checkpoint(prompts_for(folder, {"mood": 5}), tmp_path / "out", backbone=str(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
