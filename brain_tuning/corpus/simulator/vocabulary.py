"""The simulator's vocabulary: content words in semantic categories, and function words.

Every content word belongs to one category; that category, not its sound, is what the simulated
semantic cortex responds to. Within a category the words differ in sound, so low-level acoustics
alone cannot tell categories apart.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """Words of one meaning: nouns, past-tense verbs and adjectives."""

    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        return self.nouns + self.verbs + self.adjectives


def _category(nouns: str, verbs: str, adjectives: str) -> Category:
    return Category(tuple(nouns.split()), tuple(verbs.split()), tuple(adjectives.split()))


CATEGORIES: dict[str, Category] = {
    "animals": _category(
        "dog horse rabbit wolf eagle salmon spider kitten donkey beaver",
        "barked galloped hunted crawled howled nested",
        "furry wild tame feathered hungry playful",
    ),
    "food": _category(
        "bread soup cheese apple butter pepper dinner cake onion honey",
        "cooked tasted swallowed baked chewed served",
        "sweet salty delicious sour crispy ripe",
    ),
    "weather": _category(
        "storm rain thunder cloud snow wind fog winter rainbow frost",
        "froze flooded drizzled melted blew cleared",
        "cloudy icy humid stormy misty sunny",
    ),
    "family": _category(
        "mother father sister uncle cousin baby grandma husband daughter nephew",
        "married hugged adopted raised kissed visited",
        "older loving pregnant proud lonely gentle",
    ),
    "music": _category(
        "piano violin drum choir melody guitar trumpet concert rhythm opera",
        "sang hummed whistled composed strummed danced",
        "loud tuneful quiet famous choral jazzy",
    ),
    "travel": _category(
        "train airplane ticket harbor suitcase highway bicycle passport tunnel ferry",
        "drove sailed arrived departed boarded wandered",
        "distant foreign crowded delayed rapid northern",
    ),
    "body": _category(
        "doctor nurse blood shoulder fever stomach bone hospital bandage tooth",
        "coughed healed bled fainted sneezed recovered",
        "sick swollen healthy painful pale wounded",
    ),
    "building": _category(
        "hammer brick ladder carpenter roof concrete nail chimney plank window",
        "built painted repaired drilled measured sawed",
        "wooden solid rusty tall hollow crooked",
    ),
    "money": _category(
        "bank dollar market merchant diamond wallet debt salary bargain profit",
        "paid borrowed sold earned invested traded",
        "rich cheap costly poor greedy valuable",
    ),
    "school": _category(
        "teacher pencil lesson student library grammar chapter science homework essay",
        "studied learned explained wrote answered graded",
        "clever difficult boring curious correct strict",
    ),
}

FUNCTION_WORDS: tuple[str, ...] = (
    *("the", "a", "and", "then", "near", "with", "behind", "after", "because", "while"),
    *("was", "there", "every", "some", "his", "her", "very", "so", "but", "again"),
)

CATEGORY_NAMES: tuple[str, ...] = tuple(CATEGORIES)

CATEGORY_OF: dict[str, str] = {word: name for name, group in CATEGORIES.items() for word in group.words}
