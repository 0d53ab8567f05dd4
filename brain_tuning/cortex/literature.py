"""The region sets of the literature, as labels of the HCP-MMP atlas (Glasser et al. 2016).

========================  ==================================================================  =======================
set                       labels                                                              source
========================  ==================================================================  =======================
angular-gyrus (AG)        PFm PGs PGi TPOJ2 TPOJ3                                             Moussa & Toneva 2025
lateral-temporal (LTC)    STSda STSva STGa TE1a TE2a TGv TGd A5 STSdp STSvp PSL STV TPOJ1     Moussa & Toneva 2025
IFG                       44 45 IFJa IFSp                                                     Moussa & Toneva 2025
MFG                       55b                                                                 Moussa & Toneva 2025
late-language             the four above                                                      Moussa et al. 2025
primary-auditory          A1                                                                  Moussa & Toneva 2025
early-auditory            A1 PBelt MBelt LBelt RI A4                                          Moussa & Toneva 2025
AC (auditory-cortex)      those of early-auditory                                             ours, see below
========================  ==================================================================  =======================

AC is drawn by hand in ds003020, from a localiser; no atlas labels were published for it. Where a corpus stores no
region AC, early auditory cortex stands for it: that is our choice, not the literature's.

Sources: Moussa, Klakow, Toneva 2025, *Improving semantic understanding in speech language models via
brain-tuning*, ICLR; Moussa, Toneva 2025, *Brain-tuning improves generalizability and efficiency of brain
alignment in speech models*, NeurIPS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ANGULAR = tuple("PFm PGs PGi TPOJ2 TPOJ3".split())
_TEMPORAL = tuple("STSda STSva STGa TE1a TE2a TGv TGd A5 STSdp STSvp PSL STV TPOJ1".split())
_INFERIOR = tuple("44 45 IFJa IFSp".split())
_MIDDLE = ("55b",)
_EARLY = tuple("A1 PBelt MBelt LBelt RI A4".split())

#: labels by name of the set
SETS: dict[str, tuple[str, ...]] = {
    "angular-gyrus": _ANGULAR,
    "lateral-temporal": _TEMPORAL,
    "IFG": _INFERIOR,
    "MFG": _MIDDLE,
    "late-language": (*_ANGULAR, *_TEMPORAL, *_INFERIOR, *_MIDDLE),
    "primary-auditory": ("A1",),
    "early-auditory": _EARLY,
    "AC": _EARLY,
}
#: other names in use
ALIASES = {
    "AG": "angular-gyrus",
    "LTC": "lateral-temporal",
    "inferior-frontal-gyrus": "IFG",
    "middle-frontal-gyrus": "MFG",
    "auditory-cortex": "AC",
}
_SETS_BY_KEY = {name.casefold(): name for name in SETS} | {alias.casefold(): name for alias, name in ALIASES.items()}
_LABEL = re.compile(r"(?:[LR]_|[lr]h[._-])?(?P<label>.+?)(?:_ROI)?(?:-[lr]h)?")


def labels_of(name: str) -> tuple[str, ...] | None:
    """Glasser labels of a set of the literature; None if there is no such set.

    Args:
        name: of the set or an alias; case, and whether words are joined by a hyphen, ``_`` or a space, matter not.
    """
    known = _set_of(name)
    return None if known is None else SETS[known]


def synonyms(name: str) -> tuple[str, ...]:
    """All names of the set that is called ``name``, which is spelt as in :func:`labels_of`; none if there is none."""
    known = _set_of(name)
    return () if known is None else (known, *(alias for alias, of in ALIASES.items() if of == known))


def bare_label(region: str) -> str:
    """An atlas label without hemisphere and ``_ROI``: ``L_A1_ROI``, ``A1-lh`` and ``lh.A1`` give ``A1``."""
    match = _LABEL.fullmatch(region)
    return region if match is None else match["label"]


def stored_as(label: str, regions: Iterable[str]) -> list[str]:
    """Stored regions that are this label, decorated or not, of either hemisphere; case matters not."""
    return [region for region in regions if bare_label(region).casefold() == label.casefold()]


def _set_of(name: str) -> str | None:
    return _SETS_BY_KEY.get(re.sub(r"[\s_]+", "-", name.strip().casefold()))
