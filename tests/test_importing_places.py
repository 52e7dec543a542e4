"""Names of places in a model, as other libraries write them -> abench's sites."""

import pytest

from abench.importing.placing import place_of

SAME = [
    "blocks.6.hook_resid_post",
    "blocks.0.hook_attn_out",
    "blocks.11.hook_mlp_out",
]
SITES = [
    ("blocks.6.hook_resid_pre", None, "blocks.5.hook_resid_post"),
    ("blocks.{layer}.hook_resid_post", 4, "blocks.4.hook_resid_post"),
    ("blocks.6.hook_out", None, "blocks.6.hook_resid_post"),
    ("blocks.6.hook_in", None, "blocks.5.hook_resid_post"),
    ("blocks.6.attn.hook_out", None, "blocks.6.hook_attn_out"),
    ("blocks.6.mlp.hook_out", None, "blocks.6.hook_mlp_out"),
    ("layers.6", None, "blocks.6.hook_resid_post"),
    ("model.layers.6", None, "blocks.6.hook_resid_post"),
    ("model.language_model.layers.6", None, "blocks.6.hook_resid_post"),
    ("transformer.h.0", None, "blocks.0.hook_resid_post"),
    ("h.3.mlp.c_proj", None, "blocks.3.hook_mlp_out"),
    ("gpt_neox.layers.2.attention.dense", None, "blocks.2.hook_attn_out"),
    ("layers.2.self_attn.o_proj", None, "blocks.2.hook_attn_out"),
    ("layers.2.mlp.down_proj", None, "blocks.2.hook_mlp_out"),
    ("resid_post_layer_12", None, "blocks.12.hook_resid_post"),
    ("attention_out_layer_4", None, "blocks.4.hook_attn_out"),
    ("mlp_out", 3, "blocks.3.hook_mlp_out"),
    ("resid_pre", 3, "blocks.2.hook_resid_post"),
    (None, 3, "blocks.3.hook_resid_post"),
]
NOWHERE = [
    "blocks.0.hook_resid_pre",
    "blocks.3.attn.hook_z",
    "blocks.3.hook_resid_mid",
    "layers.3.mlp.up_proj",
    "layers.3.input_layernorm",
    "hook_embed",
    "embed_tokens",
    "resid_post",
]


@pytest.mark.parametrize("name", SAME)
def test_abenchs_own_names(name: str) -> None:
    place = place_of(name)
    assert (place.site, place.note) == (name, None)


@pytest.mark.parametrize("name, layer, site", SITES)
def test_other_names(name: str | None, layer: int | None, site: str) -> None:
    place = place_of(name, layer)
    assert place.site == site
    assert (place.note is None) == (name is None)


@pytest.mark.parametrize("name", NOWHERE)
def test_places_that_are_no_site_are_named(name: str) -> None:
    place = place_of(name)
    assert place.site is None
    assert place.note is not None
    assert "none of abench's sites" in place.note


def test_the_input_of_a_module() -> None:
    assert place_of("model.layers.6", reads_input=True).site == "blocks.5.hook_resid_post"
    assert place_of(None, 6, reads_input=True).site == "blocks.5.hook_resid_post"
    mlp = place_of("layers.6.mlp", reads_input=True)
    assert (mlp.site, "what goes into layers.6.mlp" in str(mlp.note)) == (None, True)


def test_nothing_known() -> None:
    assert (place_of(None).site, place_of(None).note) == (None, None)
