"""``flyte.notify``: notifications, which are accepted and sent to nobody. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.notify import Email, NamedDelivery, NamedRule, Notification, Slack, Teams, Webhook

__all__ = ["Email", "NamedDelivery", "NamedRule", "Notification", "Slack", "Teams", "Webhook"]
