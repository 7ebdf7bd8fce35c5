"""Whom to ask the server about: nobody while it names no requests, each living writer once when it does."""

from __future__ import annotations

from runfold.node.stop_questions import ASK_AGAIN_S, StopQuestions

A, B = b"a" * 16, b"b" * 16


def asked(questions: StopQuestions, living: list[bytes], now_s: float = 0.0) -> list[bytes]:
    found = questions.wanted(0, living, now_s)
    questions.answered(0, found)
    return found


def test_without_open_requests_nobody_is_asked_about():
    questions = StopQuestions()
    assert asked(questions, [A, B]) == []
    questions.seen(0, None)
    assert not questions.is_open(0)
    assert asked(questions, [A, B]) == []


def test_each_living_writer_is_asked_about_once_for_each_set_of_requests():
    questions = StopQuestions()
    questions.seen(0, b"one")
    assert questions.is_open(0) and not questions.is_open(1)
    assert asked(questions, [A]) == [A]
    questions.seen(0, b"one")
    assert asked(questions, [A, B], 1.0) == [B], "it came later"
    assert asked(questions, [A, B], 2.0) == []
    questions.seen(0, b"two")
    assert asked(questions, [A, B], 2.0) == [A, B]
    questions.seen(0, None)
    assert asked(questions, [A, B], 2.0) == []


def test_an_answer_that_did_not_come_is_asked_for_again():
    questions = StopQuestions()
    questions.seen(0, b"one")
    assert questions.wanted(0, [A], 0.0) == [A]
    assert questions.wanted(0, [A], 0.1) == [A]


def test_while_requests_are_open_all_are_asked_about_again_now_and_then():
    questions = StopQuestions()
    questions.seen(0, b"one")
    assert asked(questions, [A], 0.0) == [A]
    assert asked(questions, [A], ASK_AGAIN_S - 0.1) == []
    assert asked(questions, [A], ASK_AGAIN_S) == [A]
    assert asked(questions, [A], ASK_AGAIN_S + 0.1) == []
