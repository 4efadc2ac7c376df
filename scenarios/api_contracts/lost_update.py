"""C editors who have read the same article and then save theirs: each save replaces the one before, so C - 1 edits are undone.

With a version that one UPDATE compares and raises, one of C wins and C - 1 get 412; who opens the article again and tries again has at most
C rounds, since one of those who compare the same version always wins.  Comparing first and writing afterwards leaves a gap: forced, every
message to the database takes 20 ms, so all C have compared before the first of them writes.  A tag that a proxy has made weak (W/"3") never
matches: If-Match compares strongly.
"""

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Chart,
    Claim,
    Condition,
    FinalRead,
    Journey,
    Probe,
    Proxy,
    Scenario,
    Server,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import delay
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

POOL_SIZE = 20  # POOL_SIZE in all targets: as many statements at once as there are editors
EDITORS = 10
TYPING_S = 0.4  # what an editor takes: long enough that all have read before the first one saves
MOST_TRIES = 30
MANY, MANY_4, ONCE, WEAK, TURNS = (
    "10 editors, 412 is tried again",
    "10 editors, 412 is tried again, 4 workers",
    "10 editors, one try each",
    "tags made weak on the way",
    "one editor after the other",
)


class Editor(LabUser):
    """Opens the article, adds a tag, saves; after a 412 opens it again and adds the tag to what it finds."""

    tries = MOST_TRIES

    def journey(self) -> None:
        self.edit(1, f"editor-{self.number}", TYPING_S)

    def edit(self, article_id: int, tag: str, typing_s: float) -> bool:
        """Whether it was saved."""
        for _ in range(self.tries):
            page = self.get(f"/articles/{article_id}", name="open")
            if page.status != 200:
                continue
            article = page.json()
            if tag in article["tags"]:  # the answer to an earlier try was lost, not the edit
                return True
            self.count("tags_seen", bool(page.header("ETag")))
            gevent.sleep(typing_s)
            article["tags"].append(tag)
            headers = {"If-Match": self.sent(page.header("ETag"))} if page.header("ETag") else {}
            saved = self.put(f"/articles/{article_id}", name="save", json=article, headers=headers, expect=(200, 412))
            if saved.status == 200:
                return True
            typing_s = 0.0
        return False

    def sent(self, tag: str) -> str:
        """What arrives of the tag that the server gave."""
        return tag


class Hasty(Editor):
    """Does not look at the answer."""

    tries = 1


class Weakened(Hasty):
    """Sits behind a proxy that compresses, and for that makes the tags of answers weak."""

    def sent(self, tag: str) -> str:
        return f"W/{tag}"


class InTurns(Editor):
    """Edits ten times, each time what it finds."""

    def journey(self) -> None:
        for number in range(EDITORS):
            self.edit(1, f"edit-{number}", 0.0)


class Steady(Editor):
    """Adds one tag after the other, each to one of a hundred articles that the others edit too."""

    edits = 0

    @task
    def add(self) -> None:
        self.edits += 1
        self.edit(self.rng.randint(2, 101), f"{self.number}-{self.edits}", 0.0)


def edited(
    label: str,
    user: str,
    *,
    editors: int = EDITORS,
    workers: int = 1,
    forced: bool = False,
    control: bool = False,
    variants: tuple[str, ...] = (),
) -> Condition:
    """So many editors of one article."""
    return Condition(
        label,
        Journey(editors),
        user=user,
        server=Server(workers=workers),
        proxy=Proxy("postgres", delay(20)) if forced else None,
        params={"editors": editors},
        forced=forced,
        control=control,
        variants=variants,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Lost update: two people edit the same record and one change is gone (no ETag, no If-Match)",
    claim="Of ten edits of one article that begin together one is left with a plain PUT, and ten with ETag and If-Match",
    parts=(18,),
    catalogue_ids=("etag-lost-update", "etag-weak-if-match"),
    before_after=BeforeAfter(
        each.final("kept"),
        "edits kept of 10",
        MANY,
        "Ten editors open the same article, each adds a tag and saves.",
    ),
    labels={
        "naive": "PUT replaces",
        "correct": "UPDATE ... WHERE version = ...",
        "tempting": "If-Match compared before the UPDATE",
    },
    symptoms=(
        "lost update",
        "last write wins",
        "changes disappear",
        "edits overwritten",
        "concurrent edit",
        "optimistic locking",
        "optimistic concurrency",
        "If-Match",
        "ETag",
        "412 Precondition Failed",
        "428 Precondition Required",
        "sqlalchemy.orm.exc.StaleDataError",
        "version_id_col",
    ),
    services=("postgres",),
    constants={"POOL_SIZE": POOL_SIZE},
    queries={"known": "SELECT id FROM articles%"},
    contract_differs="the version of an article is part of the contract: naive has none",
    conditions=(
        edited(MANY, "Editor", variants=("naive", "correct")),
        edited(MANY_4, "Editor", workers=4, variants=("naive", "correct")),
        edited(ONCE, "Hasty", forced=True),
        edited(WEAK, "Weakened", editors=1, variants=("correct",)),
        edited(TURNS, "InTurns", editors=1, control=True),
    ),
    probes=(
        Probe("/articles/999", body={"title": "Nobody edits this one", "tags": []}),
        Probe("/articles/998", status=404),
        Probe(
            "/articles/998", method="PUT", status=404, headers={"If-Match": '"1"'}, json={"title": "x", "tags": ["a"]}
        ),
    ),
    final_reads=(
        FinalRead("kept", sql="SELECT cardinality(tags) FROM articles WHERE id = 1"),
        FinalRead("undone", sql="SELECT count(*) FROM undone"),
    ),
    claims=(
        Claim(
            "kept",
            "harm",
            "one edit of ten is left, and all ten were answered 200",
            naive.final("kept"),
            predict=under(MANY, MANY_4, ONCE, value=1.0),
            tolerance=0.0,
            null=EDITORS,
            formula="C - (C - 1) = 1",
            source="RFC 9110, 13.1.1: without If-Match the last PUT replaces the others",
            headline=MANY,
        ),
        Claim(
            "undone",
            "harm",
            "each save but the first undid the one before",
            naive.final("undone"),
            predict=under(MANY, MANY_4, ONCE, value=EDITORS - 1.0),
            tolerance=0.0,
            null=0.0,
            formula="C - 1 = 9",
            source="all have read before the first one saves",
            headline=MANY,
        ),
        Claim(
            "compared_first",
            "harm",
            "compared before the UPDATE, the tag protects nobody",
            tempting.final("undone"),
            predict=under(ONCE, value=EDITORS - 1.0),
            tolerance=0.0,
            null=0.0,
            formula="C - 1 = 9",
            source="PostgreSQL documentation, Read Committed: all compare before the first one commits",
        ),
        Claim(
            "no_tags",
            "mechanism",
            "FastAPI sends no ETag by itself",
            naive.observed("tags_seen"),
            predict=under(MANY, MANY_4, ONCE, value=0.0),
            tolerance=0.0,
            null=EDITORS,
            formula="0",
            source="Starlette's JSONResponse sets Content-Length and Content-Type, nothing else",
            headline=MANY,
        ),
        Claim(
            "refused",
            "mechanism",
            "of ten who have read one version one may save",
            correct.status_count(412),
            predict=under(ONCE, value=EDITORS - 1.0),
            tolerance=0.0,
            null=0.0,
            formula="C - 1 = 9",
            source="RFC 9110, 13.1.1; the row has one version",
        ),
        Claim(
            "in_turns",
            "mechanism",
            "one editor after the other loses nothing",
            naive.final("kept"),
            predict=in_control(float(EDITORS)),
            tolerance=0.0,
            null=1.0,
            formula="C = 10",
            source="each has read what the one before has saved",
        ),
        Claim(
            "all_kept",
            "fix",
            "with the version in the WHERE all ten are there in the end",
            correct.final("kept"),
            predict=under(MANY, MANY_4, value=float(EDITORS)),
            tolerance=0.0,
            null=1.0,
            formula="C = 10",
            source="whoever gets 412 adds the tag to what is there now",
            headline=MANY,
        ),
        Claim(
            "none_undone",
            "fix",
            "and no save undoes another",
            correct.final("undone"),
            predict=under(MANY, MANY_4, ONCE, TURNS, value=0.0),
            tolerance=0.0,
            null=EDITORS - 1.0,
            formula="0",
            source="PostgreSQL documentation, Read Committed: UPDATE waits for the row and evaluates its WHERE again",
            headline=MANY_4,
        ),
        Claim(
            "weak",
            "tax",
            "a tag that was made weak on the way never matches: nothing can be saved",
            correct.status_count(412),
            predict=under(WEAK, value=1.0),
            tolerance=0.0,
            null=0.0,
            formula="1 of 1",
            source="RFC 9110, 13.1.1 and 8.8.3.2: If-Match compares strongly, a weak tag is equal to none",
        ),
        Claim(
            "tries",
            "tax",
            "ten editors at once send at most 55 saves for ten edits",
            correct.requests_sent("save"),
            relation="at_most",
            predict=under(MANY, MANY_4, value=EDITORS * (EDITORS + 1) / 2),
            tolerance=0.0,
            null=EDITORS,
            formula="C + (C - 1) + ... + 1 = C (C + 1) / 2 = 55, if all keep step",
            source="of those who compare one version, one wins",
            headline=MANY,
        ),
        Claim(
            "known",
            "tax",
            "every refusal costs one more statement: changed, or no such article?",
            correct.sql_calls("known"),
            predict=under(ONCE, value=EDITORS - 1.0),
            tolerance=0.0,
            null=0.0,
            formula="C - 1 = 9",
            source="an UPDATE that changes no row does not say why",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("kept"),
            "Ten edits of one article: {kept:.0f} is left with a plain PUT, {all_kept:.0f} with If-Match",
            y_label="edits that are kept",
            conditions=(MANY, MANY_4, TURNS),
            theory=("kept", "all_kept", "in_turns"),
        ),
        Chart(
            "counts",
            each.final("undone"),
            "Compared before the UPDATE, {compared_first:.0f} of 10 edits are undone; compared in it, {none_undone:.0f}",
            y_label="edits that a later save undid",
            conditions=(ONCE,),
            theory=("undone", "compared_first", "none_undone"),
        ),
    ),
    answer=(
        "Ten editors who open the same article keep {kept:.0f} of ten edits with a plain PUT (predicted "
        "{kept.predicted:.0f}) and {all_kept:.0f} with ETag and If-Match, for {tries:.0f} saves instead of 10. Where If-Match is "
        "compared before the UPDATE, {compared_first:.0f} edits are undone when all come at once."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        ledger={"lost": each.final("undone")},
    ),
)
