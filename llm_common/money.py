"""Money: `Decimal` US dollars for people, integer nano-dollars (1e-9 USD) for arithmetic and for SQL.

Integers survive both transports to the last digit; NUMERIC becomes a float on one of them. The largest
amount is that of the columns, NUMERIC(18,9): a nano-dollar less than a billion dollars.
"""

from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal

from llm_common.exceptions import BudgetExceededError, InvalidInputError

__all__ = ["NANO_PER_USD", "billable_nano", "budget_refusal", "format_usd", "to_nano", "to_usd"]

NANO_PER_USD = 1_000_000_000
_MAX_NANO = 10**18 - 1
_NANO = Decimal("1e-9")
# A host may compute with fewer digits (`decimal.getcontext().prec`); money must not.
_EXACT = Context(prec=60)


def to_nano(amount_usd: Decimal | float | str, *, name: str = "amount") -> int:
    """Dollars to nano-dollars, rounded up, so that a fraction of one is never free.

    A float is read as it prints (`0.1` is one tenth). Raises `InvalidInputError` for a negative amount, for
    NaN and infinity, and for a billion or more.
    """
    try:
        amount = amount_usd if isinstance(amount_usd, Decimal) else Decimal(str(amount_usd))
    except ArithmeticError as error:
        raise InvalidInputError(f"{name} must be a number of US dollars, not {amount_usd!r}") from error
    if not amount.is_finite() or amount < 0:
        raise InvalidInputError(f"{name} must be zero or a positive number of US dollars, not {amount_usd!r}")
    if amount > 10**9:  # also keeps the product within the context's digits
        raise _beyond_any_bill(amount_usd, name)
    nano = _EXACT.multiply(amount, NANO_PER_USD)
    return billable_nano(int(nano.to_integral_value(rounding=ROUND_CEILING, context=_EXACT)), name=name)


def billable_nano(nano: int, *, name: str) -> int:
    """The amount itself. Raises `InvalidInputError` for a billion dollars or more."""
    if nano > _MAX_NANO:
        raise _beyond_any_bill(to_usd(nano), name)
    return nano


def to_usd(amount_nano: int) -> Decimal:
    """Nano-dollars to dollars, exactly: `to_usd(1)` is `Decimal("0.000000001")`."""
    return _EXACT.multiply(amount_nano, _NANO)


def format_usd(amount: Decimal) -> str:
    """For people: `$12.34`, and as many digits as a small amount needs: `$0.000410`."""
    if amount == 0:
        return "$0.00"
    digits = 2 if abs(amount) >= 1 else 6 if abs(amount) >= Decimal("1e-6") else 9
    return f"${amount:.{digits}f}"


def budget_refusal(
    *,
    budget: str,
    limit_nano: int,
    spent_nano: int,
    reserved_nano: int,
    requested_nano: int,
    resets_at: datetime | None,
    seconds_left: float | None = None,
) -> BudgetExceededError:
    """The error that says which budget refused, by how much, and until when.

    `seconds_left` until `resets_at` are those of the clock that opens the budget again; None where it is not known.
    """
    limit, spent, reserved, requested = map(to_usd, (limit_nano, spent_nano, reserved_nano, requested_nano))
    when = f"; it resets at {resets_at.isoformat()}" if resets_at else ""
    return BudgetExceededError(
        f"budget {budget}: {format_usd(limit)} allowed, {format_usd(spent)} spent, {format_usd(reserved)} reserved, "
        f"and this call may cost up to {format_usd(requested)}{when}. Nothing was sent. "
        "Raise the budget, lower max_tokens or choose a cheaper model.",
        budget=budget,
        limit_usd=limit,
        spent_usd=spent,
        reserved_usd=reserved,
        requested_usd=requested,
        resets_at=resets_at,
        retry_after=seconds_left,
    )


def _beyond_any_bill(amount_usd: object, name: str) -> InvalidInputError:
    return InvalidInputError(f"{name} of {amount_usd!r} US dollars is beyond any bill; check the unit")
