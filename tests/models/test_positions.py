"""How long rows may be, by the tables and the configurations of models."""

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig

from spot.models.positions import edges, most_positions, table_positions
from tests.support import odd_models
from tests.support.tiny_models import tiny_config


def model_of(config):
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return auto.from_config(config)


@pytest.mark.parametrize(
    ("config", "most", "table"),
    [
        (tiny_config("llama"), 512, None),
        (tiny_config("gpt2"), 512, 512),
        (tiny_config("opt"), 512, 512),  # 514 rows, two of them before the first position
        (odd_models.late_positions(), 509, 509),  # 512 rows, three of them before the first position
        (tiny_config("t5"), None, None),
        (odd_models.scaled_seq2seq(), 64, 64),
        (odd_models.alibi(), None, None),
        (odd_models.alibi_by_key(), 64, None),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_the_longest_row_is_that_of_the_table_or_the_configuration(config, most, table):
    model = model_of(config)
    assert most_positions(model) == most
    assert table_positions(model) == table


def test_a_length_that_is_no_number_of_tokens_is_none():
    config = tiny_config("llama")
    model = model_of(config)
    model.config.max_position_embeddings = -1
    assert most_positions(model) is None


def test_edges_are_the_numbers_of_windows_chunks_and_original_lengths():
    rope = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 128}
    config = LlamaConfig(vocab_size=300, hidden_size=32, max_position_embeddings=512, rope_parameters=rope)
    config.sliding_window = 64
    config.attention_chunk_size = 32
    config.use_sliding_window = True  # a bool is no length
    config.attention_window = [16, 24]
    model = model_of(tiny_config("llama"))
    model.config = config
    assert edges(model) == (16, 24, 32, 64, 128, 512)
