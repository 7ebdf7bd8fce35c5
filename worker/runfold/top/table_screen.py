"""What both tables share: a feed, a banner while it is silent, a filter, keys to sort, filter and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from runfold.top.feed import Feed, Heard
from runfold.top.headlines import Line
from runfold.top.table import Order
from runfold.top.table_view import STYLES, TableView
from runfold.top.texts import age_text, clean

if TYPE_CHECKING:
    from runfold.top.app import TopApp

#: Silent for so many intervals, and for so long at least: what is shown is called old.
_LATE_INTERVALS = 3
_LATE_S = 3.0
#: A text is shown for so long.
_SAID_S = 10.0


class TableScreen(Screen[None]):
    """A table that is asked for anew every interval. Subclasses say what is asked and what stands above."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.quit", "quit"),
        Binding("s", "sort_next", "sort"),
        Binding("S", "sort_reversed", "reverse", show=False),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "leave", "back", show=False),
    ]

    class Told(Message):
        """What the feed heard."""

        def __init__(self, heard: Heard) -> None:
            super().__init__()
            self.heard = heard

    def __init__(self, table: TableView, *, order: Order | None, words: str) -> None:
        super().__init__()
        self.table = table
        self.table.order = order
        self.table.words = words
        self._feed: Feed | None = None
        self._answered_s: float | None = None
        self._asked_s = 0.0
        self._error = ""
        self._said: tuple[str, float] = ("", 0.0)

    @property
    def top(self) -> TopApp:
        """The application that this is a screen of."""
        return cast("TopApp", self.app)

    def ask(self) -> Any:
        """Ask for what is shown. Called in the feed's thread."""
        raise NotImplementedError

    def show(self, value: Any) -> None:
        """Take an answer."""
        raise NotImplementedError

    def head(self) -> list[Line]:
        """Return what stands above the table."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """Lay out: head, banner, table, its state, the filter, the keys."""
        yield Static(id="head")
        yield Static(id="banner")
        yield self.table
        yield Static(id="state")
        yield Input(value=self.table.words, placeholder="filter: words, or column:value", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to ask."""
        top = self.top
        self._asked_s = top.clock()
        self._feed = Feed(
            self.ask,
            lambda heard: self.post_message(self.Told(heard)),
            interval_s=top.interval_s,
            clock=top.clock,
        )
        self._feed.start()
        self.set_interval(0.5, self._look_at_age)
        self.table.focus()
        self._draw_head()

    def on_unmount(self) -> None:
        """Ask no more."""
        if self._feed is not None:
            self._feed.close()

    def on_resize(self) -> None:
        """Cut what stands above to the new width."""
        self._draw_head()

    def type_ahead(self, text: str) -> None:
        """Give the filter what was typed for it while that was opened: a slow line sends keys in heaps."""
        line = self.query_one("#filter", Input)
        if self.focused is line:
            line.insert_text_at_cursor(text)

    @on(Told)
    def _take(self, told: Told) -> None:
        heard = told.heard
        self._error = heard.error
        if not heard.error:
            self._answered_s = heard.at_s
            self.show(heard.value)
            self._draw_head()
        self._look_at_age()

    def _look_at_age(self) -> None:
        """Say when nothing was heard for long, and how old what is shown has grown."""
        silent_s = self.top.clock() - (self._asked_s if self._answered_s is None else self._answered_s)
        is_late = silent_s > max(_LATE_S, _LATE_INTERVALS * self.top.interval_s)
        text = ""
        if self._error or is_late:
            why = self._error or f"{self.top.source.url} does not answer"
            since = "" if self._answered_s is None else f"  (what is shown is {age_text(silent_s)} old)"
            text = clean(why) + since
        banner = self.query_one("#banner", Static)
        banner.update(Text(text))
        banner.set_class(bool(text), "shown")
        self.table.grey(bool(text) and self._answered_s is not None)
        self._draw_state()

    def _draw_head(self) -> None:
        width = self.size.width or 80
        text = Text("\n").join(
            Text.assemble(*((part, STYLES[style]) for part, style in line)) for line in self.head()
        )
        head = self.query_one("#head", Static)
        head.update(text)
        head.styles.max_width = width

    def say(self, text: str) -> None:
        """Show a text below the table for some seconds."""
        self._said = (clean(text), self.top.clock() + _SAID_S)
        self._draw_state()

    def _draw_state(self) -> None:
        first, last, passing, every = self.table.counts
        text = f"{first}-{last} of {passing}"
        if passing != every:
            text += f" ({every} without filter)"
        if self.table.words:
            text += f'  filter "{clean(self.table.words)}"'
        said, until_s = self._said
        if self.top.clock() < until_s:
            text = f"{said}   {text}"
        self.query_one("#state", Static).update(Text(text))

    def action_sort_next(self) -> None:
        """Sort by the next column."""
        self.table.sort_next()

    def action_sort_reversed(self) -> None:
        """Sort the other way round."""
        self.table.sort_reversed()

    def action_filter(self) -> None:
        """Open the filter."""
        line = self.query_one("#filter", Input)
        line.display = True
        self.set_focus(line)  # now: what is typed next is for it

    def action_leave(self) -> None:
        """Close the filter and forget it; else go back to the screen before."""
        line = self.query_one("#filter", Input)
        if line.display or self.table.words:
            line.value = ""
            self._close_filter(line)
        elif len(self.app.screen_stack) > 2:
            self.app.pop_screen()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        self.table.filter_by(event.value)
        self._draw_state()

    @on(Input.Submitted, "#filter")
    def _filter_done(self, event: Input.Submitted) -> None:
        self._close_filter(event.input)

    def _close_filter(self, line: Input) -> None:
        line.display = False
        self.table.focus()
