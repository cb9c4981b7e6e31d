"""Checks of an environment: what Gymnasium asks of one, and what recurrent training needs."""
