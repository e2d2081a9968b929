"""Leaving the group when the consumer itself cannot: it may be stuck, and serves one thread only."""

from __future__ import annotations

import contextlib

from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.connection import reach


def leave_group(settings: KafkaSettings, member_id: str) -> None:
    """Take the member out of its group, over a connection of its own. Raises BrokerError."""
    with contextlib.closing(KafkaAdminClient(**reach(settings))) as admin:
        admin.remove_group_members(settings.group, [MemberToRemove(member_id=member_id)])
