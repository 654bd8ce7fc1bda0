"""Runs and the page on the Hub: `push`, `pull` and `space`, and the cards that are made from a run."""
