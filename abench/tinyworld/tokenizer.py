"""The world's tokenizer, in which each word is one token."""

from typing import TYPE_CHECKING

from abench.tinyworld.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}reply: {{ message['content'] }}{{ eos_token }}"
    "{% else %}request: {{ message['content'] }} {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}reply:{% endif %}"
)


def build_tokenizer(world: World, context: int) -> "PreTrainedTokenizerFast":
    """The tokenizer of a world: lower-case words and single punctuation marks, after `<bos>`.

    Nothing is learned: the vocabulary consists of the special tokens and the world's sorted vocabulary.
    `decode` puts no space before punctuation, so it restores a text of the world exactly.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate((*SPECIAL.values(), *world.vocabulary))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    # No word has this prefix; the decoder is used for joining words and for its treatment of punctuation.
    words.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=True), decoders.Replace(" :", ":")]
    )
    words.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_max_length=context,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPECIAL,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
