r"""LaTeX that runs: text -> expression tree -> value on a world -> text again."""
