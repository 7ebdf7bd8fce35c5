"""The table as a widget: draws the lines that are seen, keeps its place while the rows under it change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from runfold.top.columns import Column, Row
from runfold.top.table import (
    Order,
    Placed,
    column_at,
    filtered,
    fit,
    header_cells,
    next_order,
    order_by,
    ordered,
    row_cells,
    telling,
)

#: Looks by the names that columns give. Bold and reverse are seen without colours too.
STYLES = {
    "": Style.null(),
    "good": Style(color="green"),
    "notice": Style(color="yellow"),
    "bad": Style(color="red", bold=True),
    "dim": Style(dim=True),
}
_HEADER = Style(bold=True, underline=True)
_CURSOR = Style(reverse=True)
_OLD = Style(dim=True)


class TableView(Widget, can_focus=True):
    """Rows in columns that fit the width. Which row the cursor is on is remembered by the row's identity."""

    DEFAULT_CSS = "TableView { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("up,k", "move(-1)"),
        ("down,j", "move(1)"),
        ("pageup", "page(-1)"),
        ("pagedown", "page(1)"),
        ("home,g", "move(-1000000)"),
        ("end,G", "move(1000000)"),
        ("enter", "choose"),
    ]

    class Chosen(Message):
        """Enter, or a click on the row that the cursor is on."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    def __init__(self, columns: Sequence[Column], identity: Callable[[Row], Any], **more: Any) -> None:
        super().__init__(**more)
        self._columns = columns
        self._identity = identity
        self._rows: list[Row] = []
        self._shown: list[Row] = []
        self._placed: list[Placed] = []
        self._top = 0
        self._cursor = 0
        self._at: Any = None
        self.order: Order | None = None
        self.words = ""
        #: Its values are of some time ago.
        self.is_old = False

    @property
    def selected(self) -> Row | None:
        """The row that the cursor is on."""
        return self._shown[self._cursor] if self._cursor < len(self._shown) else None

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Number of the first and last line seen (from 1), rows that pass the filter, all rows."""
        last = min(len(self._shown), self._top + self._height)
        return min(self._top + 1, last), last, len(self._shown), len(self._rows)

    def put(self, rows: Sequence[Row]) -> None:
        """Show these rows from now on."""
        self._rows = list(rows)
        self._arrange()

    def sort_by(self, order: Order | None) -> None:
        """Show the rows in this order from now on."""
        self.order = order
        self._arrange()
        self._move_to(0)  # what stands first now is what was asked for

    def sort_next(self) -> None:
        """Sort by the next column."""
        self.sort_by(next_order(self._placed, self.order))

    def sort_reversed(self) -> None:
        """Sort the other way round."""
        if self.order is not None:
            self.sort_by(Order(self.order.name, not self.order.descending))

    def filter_by(self, words: str) -> None:
        """Show the rows that have these words."""
        self.words = words
        self._arrange()

    def grey(self, is_old: bool) -> None:
        """Show that the values are old, or no more."""
        if is_old != self.is_old:
            self.is_old = is_old
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return one line of the widget."""
        width = self.size.width
        if y == 0:
            text = " ".join(header_cells(self._placed, self.order))
            return Strip([Segment(text, _HEADER)]).adjust_cell_length(width, _HEADER)
        at = self._top + y - 1
        if at >= len(self._shown):
            return Strip.blank(width)
        has_cursor = at == self._cursor and self.has_focus
        base = (_OLD if self.is_old else STYLES[""]) + (_CURSOR if has_cursor else STYLES[""])
        segments = []
        for text, name in row_cells(self._shown[at], self._placed):
            segments += [Segment(text, STYLES[name] + base), Segment(" ", base)]
        return Strip(segments[:-1]).adjust_cell_length(width, base)

    def on_resize(self) -> None:
        """Choose the columns that fit now."""
        self._arrange()

    def on_click(self, event: events.Click) -> None:
        """Sort by a title, move to a row, choose the row that the cursor is on already."""
        if event.y == 0:
            column = column_at(self._placed, event.x)
            if column is not None:
                self.sort_by(order_by(column, self.order))
            return
        at = self._top + event.y - 1
        if at >= len(self._shown):
            return
        if at == self._cursor:
            self.action_choose()
        else:
            self._move_to(at)

    def on_mouse_scroll_down(self) -> None:
        """Move on."""
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        """Move back."""
        self.action_move(-3)

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self._move_to(self._cursor + lines)

    def action_page(self, pages: int) -> None:
        """Move the cursor by what is seen at once."""
        self._move_to(self._cursor + pages * max(1, self._height - 1))

    def action_choose(self) -> None:
        """Tell which row was chosen."""
        if (row := self.selected) is not None:
            self.post_message(self.Chosen(row))

    @property
    def _height(self) -> int:
        return max(1, self.size.height - 1)

    def _arrange(self) -> None:
        always = None if self.order is None else self.order.name
        columns = telling(self._columns, self._rows, always=always)
        self._placed = fit(columns, self.size.width, always=always)
        self._shown = ordered(filtered(self._rows, self._columns, self.words), self._columns, self.order)
        places = (i for i, row in enumerate(self._shown) if self._identity(row) == self._at)
        self._cursor = next(places, min(self._cursor, max(0, len(self._shown) - 1)))
        self._settle()

    def _move_to(self, at: int) -> None:
        self._cursor = min(max(0, at), max(0, len(self._shown) - 1))
        self._settle()

    def _settle(self) -> None:
        """Remember the cursor's row, and bring it into sight."""
        self._at = None if self.selected is None else self._identity(self.selected)
        self._top = min(self._top, self._cursor, max(0, len(self._shown) - self._height))
        self._top = max(self._top, self._cursor - self._height + 1)
        self.refresh()
