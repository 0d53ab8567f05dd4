from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from model_builders import ALL_TARGETS, LORA, shake, stock_wavlm, waves
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import WavLMModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from brain_tuning.models import adapters, wavlm_attention
from brain_tuning.models.wavlm_attention import ProjectedWavLMAttention, attend, use_projected_attention

KINDS = ("group", "layer")


@pytest.fixture(params=["whole", "few rows", "many windows"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """However the work is cut: rows that do not divide the frames, heads that do not divide the heads."""
    rows, scores, threads = {"whole": (512, 2**18, 1), "few rows": (7, 1, 3), "many windows": (5, 6 * 5 * 18, 1)}[
        request.param
    ]
    monkeypatch.setattr(wavlm_attention, "ROWS", rows)
    monkeypatch.setattr(wavlm_attention, "SCORES", scores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    return request.param


def projected(stock: WavLMModel) -> WavLMModel:
    ours = copy.deepcopy(stock)
    assert use_projected_attention(ours) == 3
    return ours


def with_lora(stock: WavLMModel) -> WavLMModel:
    ours = projected(stock)
    torch.manual_seed(5)
    adapters.attach(ours, "a", adapters.lora_config(ours, LORA, layers=range(3)))
    shake(ours)
    return ours


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("pieces")
def test_padded_batches_give_what_transformers_gives(kind: str) -> None:
    stock = stock_wavlm(kind)
    windows = waves(3, 8_000)
    mask = torch.ones(3, 8_000, dtype=torch.long)
    mask[1, 5_000:] = 0
    mask[2, 700:] = 0
    with torch.no_grad():
        expected = stock(windows, attention_mask=mask, output_hidden_states=True).hidden_states
        found = projected(stock)(windows, attention_mask=mask, output_hidden_states=True).hidden_states
        unmasked = stock(windows, output_hidden_states=True).hidden_states
    for layer in range(4):
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-5, atol=1e-5)
    assert (unmasked[3] - expected[3]).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("pieces")
def test_gradients_are_those_of_transformers(kind: str) -> None:
    stock = stock_wavlm(kind)
    ours = projected(stock)
    windows = waves(3, 6_000)
    aim = torch.randn(3, 18, 32, generator=torch.Generator().manual_seed(2))
    for model in (stock, ours):
        (model(windows).last_hidden_state * aim).sum().backward()
    expected = {key: parameter.grad for key, parameter in stock.named_parameters()}
    assert sum(grad is not None for grad in expected.values()) > 50
    for key, parameter in ours.named_parameters():
        if expected[key] is None:
            assert parameter.grad is None, key
        else:
            difference = (parameter.grad - expected[key]).abs().max()
            assert difference <= 1e-5 * max(1.0, float(expected[key].abs().max())), key
    for part in ("q_proj.weight", "rel_attn_embed.weight", "gru_rel_pos_linear.weight", "gru_rel_pos_const"):
        assert expected[f"encoder.layers.0.attention.{part}"].abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_every_lora_tensor_is_trained_and_merging_changes_nothing(kind: str) -> None:
    """user-pains 1: in stock WavLM the gradients are None, and merging changes the model."""
    stock = stock_wavlm(kind)
    ours = with_lora(stock)
    windows = waves(2, 6_000)
    tuned = ours(windows).last_hidden_state
    tuned.square().sum().backward()
    trained = adapters.adapter_parameters(ours, "a")
    assert len(trained) == 2 * len(ALL_TARGETS) * 3
    for key, parameter in trained.items():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key

    merged = copy.deepcopy(stock)
    merged.load_state_dict(adapters.merged_state_dict(ours, "a"), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(merged(windows).last_hidden_state, tuned, rtol=1e-5, atol=1e-5)
        assert (stock(windows).last_hidden_state - tuned).abs().max() > 0.01


def test_the_class_can_be_swapped_after_lora_was_injected() -> None:
    stock = stock_wavlm("group")
    before = with_lora(stock)
    after = copy.deepcopy(stock)
    torch.manual_seed(5)
    adapters.attach(after, "a", adapters.lora_config(after, LORA, layers=range(3)))
    shake(after)
    use_projected_attention(after)
    windows = waves(1, 5_000)
    with torch.no_grad():
        expected = before(windows).last_hidden_state
        torch.testing.assert_close(after(windows).last_hidden_state, expected, rtol=0, atol=0)


def test_bfloat16_autocast_stays_close() -> None:
    stock = stock_wavlm("group")
    windows = waves(1, 6_000)
    with torch.no_grad():
        expected = stock(windows).last_hidden_state
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = projected(stock)(windows).last_hidden_state.float()
    assert torch.nn.functional.cosine_similarity(found.ravel(), expected.ravel(), dim=0) > 0.999


def attention(n_heads: int = 4, head_width: int = 8, seed: int = 0) -> WavLMAttention:
    """One of transformers' attention layers, with a position bias that matters."""
    torch.manual_seed(seed)
    made = WavLMAttention(n_heads * head_width, n_heads, num_buckets=32, max_distance=80)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        made.rel_attn_embed.weight.normal_()
    return made.eval()


def ours_of(stock: WavLMAttention) -> ProjectedWavLMAttention:
    made = copy.deepcopy(stock)
    made.__class__ = ProjectedWavLMAttention
    return made


@pytest.mark.parametrize("n_frames", [1, 2, 31, 131, 300])
def test_one_layer_and_its_gradients_are_those_of_transformers(n_frames: int) -> None:
    """Of the input, which gate, queries, keys and values all see, and of every parameter."""
    stock = attention().double()
    hidden = torch.randn(2, n_frames, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    aim = torch.randn(2, n_frames, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = {}
    for name, layer in {"stock": stock, "ours": ours_of(stock)}.items():
        given = hidden.clone().requires_grad_(True)
        output, _, bias = layer(given)
        again, _, _ = layer(output, position_bias=bias)
        (again * aim).sum().backward()
        found[name] = [output, again, given.grad, *(parameter.grad for parameter in layer.parameters())]
    for one, other in zip(found["ours"], found["stock"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_table_of_distances_is_the_position_bias_of_transformers() -> None:
    stock = attention()
    table = ours_of(stock).distance_bias(9)
    assert table.shape == (4, 17)
    query, key = torch.arange(9)[:, None], torch.arange(9)[None, :]
    assert torch.equal(table[:, 8 + query - key], stock.compute_bias(9, 9))


def some_work(dtype: torch.dtype, n_frames: int = 11, n_windows: int = 2, head_width: int = 3) -> list[torch.Tensor]:
    """Query, key, value, gate and table of two heads."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(n_windows, 2, n_frames, head_width)] * 3 + [(n_windows, 2, n_frames), (2, 2 * n_frames - 1)]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_(True) for shape in shapes]


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("n_real", [11, 6, 0])
def test_gradients_are_those_of_finite_differences(n_real: int, dropout: float) -> None:
    """With dropout too: backward must draw what forward drew. A window of nothing but padding has no scores."""
    padding = torch.zeros(2, 11, dtype=torch.bool)
    padding[1, n_real:] = True

    def compute(*tensors: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return attend(*tensors, padding=padding if n_real < 11 else None, dropout=dropout)

    assert torch.autograd.gradcheck(compute, some_work(torch.float64), fast_mode=True)


@pytest.mark.usefixtures("pieces")
def test_dropout_drops_its_share_of_the_weights_and_scales_the_others() -> None:
    query, key, _, gate, table = some_work(torch.float32, n_frames=40, head_width=40)
    # With the unit matrix as values, the output is the attention weights.
    value = torch.eye(40).expand(2, 2, 40, 40)
    whole = attend(query, key, value, gate, table)
    torch.manual_seed(0)
    dropped, other = (attend(query, key, value, gate, table, dropout=0.25) for _ in range(2))
    kept = dropped > 0
    torch.testing.assert_close(dropped, torch.where(kept, whole / 0.75, 0.0))
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.02)
    assert not torch.equal(dropped, other)
    torch.manual_seed(0)
    assert torch.equal(attend(query, key, value, gate, table, dropout=0.25), dropped)
    layer = ours_of(attention())
    layer.dropout = 0.5
    hidden = torch.randn(1, 20, 32)
    assert torch.equal(layer(hidden)[0], layer(hidden)[0])
    layer.train()
    assert not torch.equal(layer(hidden)[0], layer(hidden)[0])


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.n_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.n_elements = max(self.n_elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def test_nothing_of_frames_by_frames_is_made_or_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wavlm_attention, "ROWS", 8)
    monkeypatch.setattr(wavlm_attention, "SCORES", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    n_frames = 400
    layer = ours_of(attention())
    hidden = torch.randn(1, n_frames, 32, requires_grad=True)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x)
    with Largest() as largest, hooks:
        output, weights, bias = layer(hidden)
        output.sum().backward()
    assert weights is None
    assert bias.shape == (4, 2 * n_frames - 1)
    # The inputs and outputs of the projections, and 8 rows of the scores of a head, shifted by distance.
    assert max(kept) == n_frames * 32
    assert largest.n_elements == n_frames * 32 < n_frames**2
    assert layer.rel_attn_embed.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_changes_no_gradient(kind: str, dropout: float) -> None:
    gradients = []
    for checkpointed in (False, True):
        model = with_lora(stock_wavlm(kind)).train()
        model.config.layerdrop, model.config.apply_spec_augment = 0.0, False
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(module, WavLMAttention):
                module.dropout = dropout
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(4)
        model(waves(2, 6_000)).last_hidden_state.square().sum().backward()
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("pieces")
def test_gradients_under_bfloat16_autocast_stay_close() -> None:
    """Whether or not backward runs under autocast, too."""
    stock = with_lora(stock_wavlm("group"))
    windows = waves(2, 6_000)
    found: list[dict[str, torch.Tensor]] = []
    for precise, backward_too in ((True, False), (False, False), (False, True)):
        model = copy.deepcopy(stock)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not precise):
            loss = model(windows).last_hidden_state.float().square().sum()
            if backward_too:
                loss.backward()
        if not backward_too:
            loss.backward()
        found.append({key: p.grad for key, p in model.named_parameters() if ".lora_" in key})
    for key, expected in found[0].items():
        for other in found[1:]:
            likeness = torch.nn.functional.cosine_similarity(other[key].ravel(), expected.ravel(), dim=0)
            assert likeness > 0.99, (key, likeness)


def test_backward_is_as_precise_as_forward_was_even_under_autocast() -> None:
    gradients = []
    for autocast in (False, True):
        tensors = some_work(torch.float32)
        output = attend(*tensors)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            gradients.append(torch.autograd.grad(output, tensors, torch.ones_like(output)))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_bfloat16_model_is_close_to_a_float32_one() -> None:
    layer = ours_of(attention())
    hidden = torch.randn(2, 140, 32, generator=torch.Generator().manual_seed(1))
    expected = layer(hidden)[0]
    found, _, bias = copy.deepcopy(layer).bfloat16()(hidden.bfloat16())
    assert found.dtype == bias.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(found.float().ravel(), expected.ravel(), dim=0) > 0.999


@pytest.mark.parametrize("training", [False, True])
def test_compiled_it_is_one_graph_and_the_same(training: bool) -> None:
    stock = ours_of(attention()).double()
    hidden = torch.randn(2, 150, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for compiled in (False, True):
        layer = copy.deepcopy(stock).train(training)

        def run(hidden: torch.Tensor, layer: Any = layer) -> torch.Tensor:
            first, _, bias = layer(hidden)
            return layer(first, position_bias=bias)[0]

        torch._dynamo.reset()
        given = hidden.clone().requires_grad_(training)
        output = (torch.compile(run, fullgraph=True, backend="aot_eager") if compiled else run)(given)
        output.square().sum().backward()
        found.append([output.detach(), given.grad, *(parameter.grad for parameter in layer.parameters())])
    assert (found[0][1] is not None) == training
    for one, other in zip(*found, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
