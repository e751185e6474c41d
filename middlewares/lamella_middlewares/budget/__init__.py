"""Budget: nobody spends more than there is for them."""

from __future__ import annotations

from lamella_middlewares.budget._allowances import Allowance
from lamella_middlewares.budget._levels import BudgetLevel
from lamella_middlewares.budget._middleware import Budget
from lamella_middlewares.budget._notices import BudgetNotice

__all__ = ("Allowance", "Budget", "BudgetLevel", "BudgetNotice")
