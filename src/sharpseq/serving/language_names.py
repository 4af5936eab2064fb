"""Languages by code: their English names, and the codes that multilingual tokenizers have for them."""

from __future__ import annotations

from collections.abc import Iterable

# ISO 639-1, ISO 639-3 as NLLB writes it, English name.
_LANGUAGES = """
af afr Afrikaans; ar arb Arabic; az azj Azerbaijani; be bel Belarusian; bg bul Bulgarian; bn ben Bengali; bs bos Bosnian
ca cat Catalan; cs ces Czech; cy cym Welsh; da dan Danish; de deu German; el ell Greek; en eng English; eo epo Esperanto
es spa Spanish; et est Estonian; eu eus Basque; fa pes Persian; fi fin Finnish; fr fra French; ga gle Irish
gl glg Galician; gu guj Gujarati; he heb Hebrew; hi hin Hindi; hr hrv Croatian; hu hun Hungarian; hy hye Armenian
id ind Indonesian; is isl Icelandic; it ita Italian; ja jpn Japanese; ka kat Georgian; kk kaz Kazakh; km khm Khmer
kn kan Kannada; ko kor Korean; ky kir Kyrgyz; lo lao Lao; lt lit Lithuanian; lv lvs Latvian; mk mkd Macedonian
ml mal Malayalam; mn khk Mongolian; mr mar Marathi; ms zsm Malay; mt mlt Maltese; my mya Burmese
nb nob Norwegian Bokmål
ne npi Nepali; nl nld Dutch; nn nno Norwegian Nynorsk; pa pan Punjabi; pl pol Polish; ps pbt Pashto; pt por Portuguese
ro ron Romanian; ru rus Russian; si sin Sinhala; sk slk Slovak; sl slv Slovenian; so som Somali; sq als Albanian
sr srp Serbian; sv swe Swedish; sw swh Swahili; ta tam Tamil; te tel Telugu; tg tgk Tajik; th tha Thai; tl tgl Tagalog
tr tur Turkish; uk ukr Ukrainian; ur urd Urdu; uz uzn Uzbek; vi vie Vietnamese; xh xho Xhosa; yo yor Yoruba
zh zho Chinese; zu zul Zulu
"""
_ROWS = [entry.split(maxsplit=2) for line in _LANGUAGES.strip().splitlines() for entry in line.split(";")]
_NAMES = {code: name for short, long, name in _ROWS for code in (short, long)}
_LONG = {short: long for short, long, _ in _ROWS}


def language_name(code: str) -> str:
    """Return the English name of a language, or its code where the name is not known.

    Example:
        >>> language_name("de"), language_name("deu_Latn"), language_name("pt-BR"), language_name("phonemes")
        ('German', 'German', 'Portuguese', 'phonemes')
    """
    return _NAMES.get(_base(code), code)


def language_of_tokenizer(code: str, names: Iterable[str]) -> str | None:
    """Return the name that a multilingual tokenizer has for a language; None if it has none, or several.

    Args:
        code: The code in requests: the tokenizer's own name, or ISO 639-1.
        names: The names that the tokenizer knows.

    Example:
        >>> language_of_tokenizer("de", ["eng_Latn", "deu_Latn"])
        'deu_Latn'
        >>> language_of_tokenizer("de", ["en_XX", "de_DE"])
        'de_DE'
    """
    known = list(names)
    if code in known:
        return code
    wanted = {code.lower(), _LONG.get(code.lower(), code.lower())}
    found = [name for name in known if _base(name) in wanted]
    return found[0] if len(found) == 1 else None


def _base(code: str) -> str:
    return code.replace("-", "_").partition("_")[0].lower()
