"""GPT: shapes, sizes, sharing, causality, initial values, and GPT-2's names on disk."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.errors import UserError
from handgrad.engine.models.gpt import GPT, GPTConfig
from handgrad.engine.random import Generator

CONFIG = GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=12, bias=True)
IDS = np.random.default_rng(0).integers(0, 11, (3, 8))


def gpt(**changes: Any) -> GPT:
    return GPT(GPTConfig(**{**CONFIG.__dict__, **changes}), generator=Generator(1))


def test_shapes() -> None:
    model = gpt()
    assert model(IDS).shape == (3, 8, 11)
    assert model(IDS[:, :1]).shape == (3, 1, 11)
    assert model.loss(IDS, IDS).shape == ()
    assert model.next_logits(IDS[0]).shape == (11,)
    assert abs(model.loss(IDS, IDS).item() - math.log(11)) < 0.3  # small initial weights: almost uniform


def test_too_long_an_input_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^GPT: ids has 9 positions, but this model's block_size is 8"):
        gpt()(np.zeros((1, 9), np.int64))
    with pytest.raises(IndexError, match=r"^embedding: ids holds 11, but weight has 11 rows"):
        gpt()(np.full((1, 2), 11))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("V", "T", "L", "H", "C"), [(11, 8, 2, 2, 12), (65, 64, 4, 4, 128), (5, 3, 1, 1, 6)])
def test_the_number_of_parameters(V: int, T: int, L: int, H: int, C: int, bias: bool) -> None:
    block = 2 * C + 3 * C * C + C * C + 4 * C * C + 4 * C * C  # norms; attention; mlp
    biases = 2 * C + 3 * C + C + 4 * C + C
    want = V * C + T * C + L * (block + bias * biases) + C + bias * C
    model = GPT(GPTConfig(vocab_size=V, block_size=T, n_layer=L, n_head=H, n_embd=C, bias=bias))
    assert model.num_parameters() == want
    groups = model.parameter_groups(0.1)
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert sum(p.size for g in groups for p in g["params"]) == want
    assert {p.ndim for p in groups[0]["params"]} == {2}


def test_the_output_shares_the_embeddings_weight_and_both_uses_add_to_its_gradient() -> None:
    model = gpt(n_layer=1).astype(np.float64)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert "lm_head.weight" not in dict(model.named_parameters())
    apart = gpt(n_layer=1).astype(np.float64)
    apart.lm_head.weight = Tensor(model.lm_head.weight.data, requires_grad=True)
    for m in (model, apart):
        m.loss(IDS, np.roll(IDS, -1, 1)).backward()
    both = apart.lm_head.weight.grad.data + apart.transformer.wte.weight.grad.data
    assert np.allclose(model.lm_head.weight.grad.data, both, rtol=1e-12, atol=1e-14)
    assert np.abs(apart.transformer.wte.weight.grad.data).max() > 1e-4


@pytest.mark.parametrize("kernels", ["off", "force"])
def test_later_tokens_cannot_change_earlier_logits(kernels: str) -> None:
    model = gpt()
    with hg.use_kernels(kernels):
        logits = model(IDS).data
        for t in range(1, 8):
            later = IDS.copy()
            later[:, t:] = (later[:, t:] + 1) % 11
            changed = model(later).data
            assert np.array_equal(changed[:, :t], logits[:, :t])
            assert not np.array_equal(changed[:, t], logits[:, t])


def test_a_sequence_does_not_see_its_neighbours_in_the_batch() -> None:
    model = gpt().astype(np.float64)
    assert np.allclose(model(IDS).data[1], model(IDS[1:2]).data[0], rtol=1e-12, atol=1e-14)


def test_next_logits_are_the_last_of_the_last_block() -> None:
    model = gpt()
    ids = np.random.default_rng(1).integers(0, 11, 20)
    assert np.allclose(model.next_logits(ids), model(ids[None, -8:]).data[0, -1], atol=1e-6)
    assert np.allclose(model.next_logits(ids[:3]), model(ids[None, :3]).data[0, -1], atol=1e-6)
    assert hg.is_grad_enabled()


def test_initial_values_are_gpt2s_and_depend_on_the_generator_alone() -> None:
    model = GPT(GPTConfig(vocab_size=200, block_size=64, n_layer=3, n_head=2, n_embd=64), generator=Generator(4))
    for name, p in model.named_parameters():
        if p.ndim == 2:
            std = 0.02 / math.sqrt(6) if name.endswith("c_proj.weight") else 0.02
            assert abs(p.data.std() - std) < 5 * std / math.sqrt(2 * p.size), name
            assert abs(p.data.mean()) < 5 * std / math.sqrt(p.size), name
        else:
            assert np.array_equal(p.data, np.full(p.shape, float(name.endswith("weight")))), name
    again = GPT(model.config, generator=Generator(4))
    other = GPT(model.config, generator=Generator(5))
    assert np.array_equal(again.lm_head.weight.data, model.lm_head.weight.data)
    assert not np.array_equal(other.lm_head.weight.data, model.lm_head.weight.data)


def test_dropout_is_on_in_training_alone() -> None:
    model = gpt(dropout=0.3)
    assert not np.array_equal(model(IDS).data, model(IDS).data)
    model.eval()
    assert np.array_equal(model(IDS).data, model(IDS).data)


def test_kernels_and_formulas_agree_on_every_gradient() -> None:
    from handgrad.engine.testing.model_gradients import compare_gradients

    found = compare_gradients(gpt(), IDS, np.roll(IDS, -1, 1), np.float64)
    assert found.worst < 1e-11, found
    assert found.calls == 2 * (10 * 2 + 5)  # forward and backward: ten in each block, two embeddings, norm, head, loss


# ---- on disk


@pytest.mark.parametrize("bias", [True, False])
def test_files_round_trip_bit_for_bit_under_gpt2s_names(bias: bool) -> None:
    model = gpt(bias=bias, dropout=0.1)
    for p in model.parameters():  # biases too shall be something
        p.copy_(np.random.default_rng(p.size).standard_normal(p.shape).astype(np.float32))
    config, arrays = model.to_files()
    assert config["model_type"] == "gpt2"
    assert arrays["transformer.h.0.attn.c_attn.weight"].shape == (12, 36)  # Conv1D: (in, out)
    assert arrays["transformer.h.1.mlp.c_fc.weight"].shape == (12, 48)
    assert "lm_head.weight" not in arrays
    assert ("transformer.h.0.attn.c_attn.bias" in arrays) == bias
    again = GPT.from_files(config, arrays)
    assert again.config == model.config
    state = again.state_dict()
    assert all(a.tobytes() == state[name].tobytes() for name, a in model.state_dict().items())
    assert again.lm_head.weight is again.transformer.wte.weight
    assert again.eval()(IDS).data.tobytes() == model.eval()(IDS).data.tobytes()


def test_files_from_elsewhere() -> None:
    """Without the prefix, with the buffers of old files, with the shared weight stored twice."""
    model = gpt()
    config, arrays = model.to_files()
    bare = {name.removeprefix("transformer."): a for name, a in arrays.items()}
    bare |= {"h.0.attn.bias": np.ones((1, 1, 8, 8)), "h.0.attn.masked_bias": np.array(-1e4)}
    twice = {**arrays, "lm_head.weight": arrays["transformer.wte.weight"]}
    for files in (bare, twice):
        again = GPT.from_files({**config, "n_ctx": 8, "torch_dtype": "float32"}, files)
        assert np.array_equal(again.eval()(IDS).data, model.eval()(IDS).data)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "bert"}, "config.json says model_type 'bert', but a GPT needs 'gpt2'"),
        ({"n_layer": None}, "GPT: n_layer is None, but it must be a positive integer"),
        ({"n_layer": "2"}, "GPT: n_layer is '2', but it must be a positive integer"),
        ({"n_head": 0}, "GPT: n_head is 0"),
        ({"n_embd": 12.0}, "GPT: n_embd is 12.0"),
        ({"n_head": 5}, "GPT: n_embd is 12, which n_head 5 does not divide"),
        ({"resid_pdrop": 2.0}, "GPT: dropout is 2.0"),
        ({"resid_pdrop": "much"}, "resid_pdrop"),
        ({"resid_pdrop": None}, "resid_pdrop"),
        ({"resid_pdrop": [0.1]}, "resid_pdrop"),
        ({"bias": "no"}, "GPT: bias is 'no', but it must be true or false"),
        (
            {"activation_function": "relu"},
            'config.json says activation_function "relu", but .* "gelu_new" or "gelu_pyt',
        ),
        ({"tie_word_embeddings": False}, "config.json says tie_word_embeddings false, but .* only true"),
        ({"scale_attn_weights": False}, "config.json says scale_attn_weights false"),
        ({"scale_attn_by_inverse_layer_idx": True}, "config.json says scale_attn_by_inverse_layer_idx true"),
        ({"layer_norm_epsilon": 0.0}, "GPT: layer_norm_epsilon is 0.0"),
        ({"layer_norm_epsilon": "1e-5"}, "GPT: layer_norm_epsilon is '1e-5'"),
        ({"n_layer": 10**400}, r"GPT: vocab_size 11, .* make more than 2\*\*40 parameters"),
        ({"n_layer": 3}, "model.safetensors does not fit config.json: .*missing: .*transformer.h.2"),
        ({"n_layer": 1}, "model.safetensors does not fit config.json: .*unexpected: .*transformer.h.1"),
        ({"n_embd": 16}, "model.safetensors does not fit config.json: .*shape"),
    ],
)
def test_a_broken_config_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    config, arrays = gpt().to_files()
    with pytest.raises(UserError, match=sentence):
        GPT.from_files({**config, **change}, arrays)


def test_an_output_weight_of_its_own_is_refused() -> None:
    config, arrays = gpt().to_files()
    other = {**arrays, "lm_head.weight": arrays["transformer.wte.weight"] + 1}
    with pytest.raises(UserError, match=r"has an lm_head.weight that differs from transformer.wte.weight"):
        GPT.from_files(config, other)


def test_the_epsilon_of_the_norms_is_kept() -> None:
    model = gpt(layer_norm_epsilon=1e-2)
    again = GPT.from_files(*model.to_files())
    assert again.config.layer_norm_epsilon == again.transformer.h[1].ln_2.eps == again.transformer.ln_f.eps == 1e-2
    assert np.array_equal(again.eval()(IDS).data, model.eval()(IDS).data)


def test_bfloat16_weights_load_as_float32() -> None:
    config, arrays = gpt().to_files()
    model = GPT.from_files(config, {name: a.astype(ml_dtypes.bfloat16) for name, a in arrays.items()})
    want = arrays["transformer.wte.weight"].astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(model.lm_head.weight.data, want)


@pytest.mark.parametrize("missing", ["vocab_size", "n_positions", "n_embd"])
def test_a_config_that_lacks_a_size_names_it(missing: str) -> None:
    config, arrays = gpt().to_files()
    del config[missing]
    with pytest.raises(UserError, match=rf"^config.json lacks {missing}"):
        GPT.from_files(config, arrays)


@pytest.mark.parametrize(
    "change", [{"activation_function": "relu"}, {"layer_norm_epsilon": 0.1}, {"tie_word_embeddings": False}]
)
def test_a_config_that_asks_for_another_architecture_is_refused_or_obeyed(change: dict[str, Any]) -> None:
    """Silence would mean other numbers than the files' author had."""
    config, arrays = gpt().to_files()
    try:
        model = GPT.from_files({**config, **change}, arrays)
    except UserError:
        return
    ignored = np.allclose(model.eval()(IDS).data, gpt().eval()(IDS).data)
    assert not ignored


def test_sizes_are_checked() -> None:
    for change, sentence in (
        ({"vocab_size": 0}, "GPT: vocab_size is 0"),
        ({"n_embd": True}, "GPT: n_embd is True"),
        ({"dropout": 1.0}, "GPT: dropout is 1.0"),
        ({"dropout": float("nan")}, "GPT: dropout is nan"),
    ):
        with pytest.raises(UserError, match=r"^" + sentence):
            gpt(**change)
