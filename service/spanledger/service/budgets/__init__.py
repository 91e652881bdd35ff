"""Budgets of the configuration: what was spent of each, who is told when, and hours that cost more than is usual."""
