"""What the environment says."""

from decimal import Decimal
from pathlib import Path

import pytest

from llm_common.exceptions import ConfigurationError
from llm_common.settings import Settings


def test_an_empty_environment_is_enough() -> None:
    """Everything has a default, and an empty variable is not set."""
    assert Settings.from_environment({}) == Settings()
    names = (
        "OPENAI_API_KEY",
        "DATABASE_URL",
        "LLM_COMMON_PROJECT",
        "LLM_COMMON_DAILY_BUDGET_USD",
        "LLM_COMMON_DATA_DIR",
    )
    assert Settings.from_environment(dict.fromkeys(names, " ")) == Settings()


def test_everything_is_read() -> None:
    """Each variable finds its field."""
    settings = Settings.from_environment(
        {
            "OPENAI_API_KEY": "sk-1",
            "OPENAI_BASE_URL": "http://localhost:1/v1/",
            "ANTHROPIC_API_KEY": "sk-2",
            "DATABASE_URL": "postgres://u:p@h/d",
            "LLM_COMMON_DATA_DIR": "~/data",
            "LLM_COMMON_PROJECT": "billing",
            "LLM_COMMON_MODEL": "some/model",
            "LLM_COMMON_DAILY_BUDGET_USD": "12.50",
            "LLM_COMMON_MONTHLY_BUDGET_USD": "0",
            "LLM_COMMON_UNKNOWN_PRICE": "estimate",
        }
    )
    assert settings == Settings(
        keys={"openai": "sk-1", "anthropic": "sk-2"},
        urls={"openai": "http://localhost:1/v1"},
        database_url="postgres://u:p@h/d",
        data_dir=Path.home() / "data",
        project="billing",
        model="some/model",
        daily_budget_usd=Decimal("12.50"),
        monthly_budget_usd=Decimal(0),
        unknown_price="estimate",
    )


def test_both_names_of_the_zai_key_are_known() -> None:
    """The first of the two wins where both are set."""
    assert Settings.from_environment({"Z_AI_API_KEY": "b"}).keys == {"zai": "b"}
    assert Settings.from_environment({"Z_AI_API_KEY": "b", "ZAI_API_KEY": "a"}).keys == {"zai": "a"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLM_COMMON_DAILY_BUDGET_USD", "ten"),
        ("LLM_COMMON_DAILY_BUDGET_USD", "-1"),
        ("LLM_COMMON_MONTHLY_BUDGET_USD", "nan"),
        ("LLM_COMMON_UNKNOWN_PRICE", "ignore"),
    ],
)
def test_a_wrong_value_is_refused_by_the_variables_name(name: str, value: str) -> None:
    """A typing error is found at the start, and the message says where it is."""
    with pytest.raises(ConfigurationError, match=name):
        Settings.from_environment({name: value})


def test_a_base_url_needs_its_scheme() -> None:
    """`localhost:1234` alone is no URL."""
    with pytest.raises(ConfigurationError, match="http"):
        Settings.from_environment({"OPENROUTER_API_BASE": "localhost:1234"})


def test_secrets_do_not_show() -> None:
    """Neither keys nor the database's password are in the repr that a log may print."""
    settings = Settings.from_environment({"OPENAI_API_KEY": "sk-secret", "DATABASE_URL": "postgres://u:pw-secret@h/d"})
    assert "secret" not in repr(settings)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument it is `os.environ`, as it is now."""
    monkeypatch.setenv("LLM_COMMON_PROJECT", "from here")
    assert Settings.from_environment().project == "from here"


def test_a_url_that_is_none_is_told_by_its_variable_and_not_by_its_value() -> None:
    """A key that was pasted into the wrong variable does not end up in an error."""
    with pytest.raises(ConfigurationError, match="OPENAI_BASE_URL") as caught:
        Settings.from_environment({"OPENAI_BASE_URL": "sk-secret-0123456789"})
    assert "secret" not in str(caught.value)


def test_a_variable_of_another_system_is_read_from_the_same_environment() -> None:
    """The first that is set wins, an empty one is not set, and none of them shows in the repr."""
    settings = Settings.from_environment({"FIRST": " ", "SECOND": " secret ", "THIRD": "x"})
    assert settings.variable("FIRST", "SECOND", "THIRD") == "secret"
    assert settings.variable("FIRST") is None
    assert Settings().variable("PATH") is None
    assert "secret" not in repr(settings)
