"""Verdicts on runs that live: who hangs, who is slow, whose values differ. Pure but for board.py."""
