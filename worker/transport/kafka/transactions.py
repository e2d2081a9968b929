"""Transactions (KIP-98, KIP-447) in two or three journeys to the broker, on one thread.

kafka-python's own producer asks one thing after the other: five journeys for each transaction. Here what does not wait
for each other travels together:

1. `begin`: the partitions and the group's positions become parts of the transaction; only at brokers that do not make
   them so by themselves (KIP-890, as those from 4.0 on do);
2. `store`: the records are written, and the positions put down in the name of the group member that polled the frames;
3. `commit`.

Nothing is sent again that may have been done: of what a broker refused for now only that, to whoever leads it by then.
After a fault the transaction stays open, and the next `Transactions` of
the same id ends it; whatever comes too late of this one is refused then (docs/kafka.md).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import (
    CommitFailedError,
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaError,
    NotCoordinatorError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    UnknownMemberIdError,
    for_code,
)
from kafka.net.compat import KafkaNetClient
from kafka.protocol.metadata import ApiVersionsRequest, CoordinatorType, FindCoordinatorRequest
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
    TxnOffsetCommitRequest,
)

from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.connection import common, ms
from quarterturn.worker.transport.kafka.consumer import Member
from quarterturn.worker.transport.kafka.outgoing import Record, Records, batch_of, by_topic, partition_of
from quarterturn.worker.transport.kafka.positions import Positions

Question = tuple[CoordinatorType | TopicPartition | None, Any]
"""Whom to ask (a coordinator, the leader of a partition, anybody), and what."""

TRANSACTION, GROUP = CoordinatorType.TRANSACTION, CoordinatorType.GROUP

_AGAIN_S, _AGAIN_MAX_S = 0.002, 0.1  # the broker ends a transaction after it has answered, and the next waits for that
_NOT_YET = (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotEnoughReplicasError,  # nothing was written; also where the broker confuses records and positions on their way
)
_MOVED = (NotCoordinatorError, NotLeaderForPartitionError)
_ALL_REPLICAS = -1
_SEQUENCES = 2**31
_FEATURE, _LEVEL = "transaction.version", 2  # of a cluster: what all its brokers do


class _Kind(NamedTuple):
    """How a broker does transactions: whether it is `told` what becomes part of one, and the newest requests for it."""

    told: bool
    produce: int
    positions: int
    end: int


_FIRST = _Kind(told=True, produce=9, positions=3, end=3)
_SECOND = _Kind(told=False, produce=12, positions=5, end=5)
"""KIP-890: what is written becomes part of the transaction, and each one has an epoch of its own."""


class Transactions:
    """One transaction after the other under one id. After an error only `close` may be called.

    Raises:
        BrokerError: from every method; StaleMemberError where the group has been rebalanced meanwhile.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self._id, self._group = transactional_id, settings.group
        self._keys = {TRANSACTION: transactional_id, GROUP: settings.group}
        self._client = KafkaNetClient(**common(settings))
        self._manager, self._net = self._client._manager, self._client._net
        self._manager.cluster.config["allow_auto_create_topics"] = False  # kafka-python does not hand it on
        self._sequences: Counter[TopicPartition] = Counter()
        self._net.start()
        try:
            self._run(self.open(settings.topics.model_dump().values()))
        except KafkaError:
            self.close()
            raise

    def transact(self, records: Sequence[Record], positions: Positions, member: Member) -> None:
        """Publish `records`, and commit the `positions` in the name of `member`."""
        by_partition: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
        for record in records:
            by_partition[partition_of(record, self._manager.cluster.partitions_for_topic(record.topic))].append(record)
        self._run(self._transact(by_partition, positions, member))

    def close(self) -> None:
        """Release the connections; may be called twice. What is under way is neither waited for nor ended."""
        self._client.close()

    async def open(self, topics: Iterable[str]) -> None:
        """Find out whom to ask, and end what a predecessor left."""
        await self._manager.bootstrap_async(ms(connection.ANSWER_S))
        await self._manager.cluster.set_topics(list(topics))
        self._kind = await self._ask_for_kind()
        await self._find_coordinators()
        patience_ms = ms(connection.ANSWER_S)  # readers wait so long for a worker that died in a transaction
        request = InitProducerIdRequest(
            transactional_id=self._id,
            transaction_timeout_ms=patience_ms,
            producer_id=-1,
            producer_epoch=-1,
            max_version=4,
        )
        (begun,) = await self._ask((TRANSACTION, request))
        self._begin_epoch(begun)

    async def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Make `partitions`, and the positions of the group, parts of the next transaction."""
        if not self._kind.told:
            return
        topics = [
            AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=topic, partitions=[one.partition for one in several])
            for topic, several in by_topic(partitions).items()
        ]
        ours = {f"v3_and_below_{name}": value for name, value in self._ours.items()}
        to_results = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self._id, **ours, v3_and_below_topics=topics, max_version=3
        )
        to_positions = AddOffsetsToTxnRequest(
            transactional_id=self._id, **self._ours, group_id=self._group, max_version=3
        )
        await self._ask((TRANSACTION, to_results), (TRANSACTION, to_positions))

    async def store(self, records: Records, positions: Positions, member: Member) -> None:
        """Write everything down, to be seen when it is committed."""
        rest = {partition: self._batches(partition, several) for partition, several in records.items()}
        put_down = GROUP, self._to_put_down(positions, member)
        await self._ask(put_down, *self._to_write(_next_of(rest)))
        while batches := _next_of(rest):
            await self._ask(*self._to_write(batches))

    async def commit(self) -> None:
        """Let it be seen."""
        ours, newest = self._ours, self._kind.end
        request = EndTxnRequest(transactional_id=self._id, **ours, committed=True, max_version=newest)
        (ended,) = await self._ask((TRANSACTION, request))
        if not self._kind.told:
            self._begin_epoch(ended)

    async def _transact(self, records: Records, positions: Positions, member: Member) -> None:
        await self.begin(records)
        await self.store(records, positions, member)
        await self.commit()

    def _begin_epoch(self, answer: Any) -> None:
        """Who we are from now on; records are numbered anew."""
        self._ours = {"producer_id": answer.producer_id, "producer_epoch": answer.producer_epoch}
        self._sequences.clear()

    async def _ask_for_kind(self) -> _Kind:
        names = ("client_software_name", "client_software_version")
        ours = {name: self._manager.config[name] for name in names}
        (answer,) = await self._ask((None, ApiVersionsRequest(**ours)))
        levels = {one.name: one.max_version_level for one in answer.finalized_features or ()}  # none before 2.4
        return _SECOND if levels.get(_FEATURE, 0) >= _LEVEL else _FIRST

    async def _find_coordinators(self) -> None:
        for kind, key in self._keys.items():
            request = FindCoordinatorRequest(key=key, key_type=kind.value, coordinator_keys=[key])
            (answer,) = await self._ask((None, request))
            found = answer.coordinators[0] if answer.coordinators else answer  # before version 4 there was but one
            self._manager.cluster.add_coordinator(found, kind, key)

    async def _ask(self, *questions: Question) -> list[Any]:
        """Send requests, all at once; those that were refused for now again. Returns the last answers."""
        pause_s = _AGAIN_S
        while True:
            sent = [self._manager.send(request, node_id=self._broker(whom)) for whom, request in questions]
            answers = [await answer for answer in sent]
            errors = [next((for_code(code) for code in _codes(answer) if code), None) for answer in answers]
            if not any(errors):
                return answers
            for error in filter(None, errors):
                if error in (IllegalGenerationError, UnknownMemberIdError):
                    raise CommitFailedError
                if error not in (*_NOT_YET, *_MOVED):
                    raise error
            await self._net.sleep(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_MAX_S)
            if any(error in _MOVED for error in errors):
                await self._manager.cluster.request_update()
                await self._find_coordinators()
            asked = zip(questions, answers, errors, strict=True)
            questions = tuple(again for one, answer, error in asked if error for again in self._again(one, answer))

    def _again(self, question: Question, answer: Any) -> Iterable[Question]:
        """What of a question was refused: of records those whose partitions refused them, which may have moved."""
        _, request = question
        if not isinstance(request, ProduceRequest):
            return [question]
        refused = {
            (topic.name, one.index) for topic in answer.responses for one in topic.partition_responses if one.error_code
        }
        return self._to_write(
            {
                TopicPartition(topic.name, one.index): one.records
                for topic in request.topic_data
                for one in topic.partition_data
                if (topic.name, one.index) in refused
            }
        )

    def _broker(self, whom: CoordinatorType | TopicPartition | None) -> Any:
        """The connection to a coordinator, or to the leader of a partition; None: any."""
        cluster = self._manager.cluster
        if isinstance(whom, TopicPartition):
            return cluster.leader_for_partition(whom)
        return None if whom is None else cluster.get_coordinator(self._keys[whom], whom)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` on the thread of the connections, and wait for it."""
        self._net.run(self._manager.wait_for, self._net.call_soon_with_future(work), ms(connection.ANSWER_S))

    def _batches(self, partition: TopicPartition, records: Sequence[Record]) -> Iterator[bytearray]:
        """The records of one partition in batches, each numbered behind the one before it."""
        left = list(records)
        while left:
            batch, taken = batch_of(left, **self._ours, base_sequence=self._sequences[partition])
            self._sequences[partition] = (self._sequences[partition] + taken) % _SEQUENCES
            left = left[taken:]
            yield batch

    def _to_write(self, batches: Mapping[TopicPartition, bytearray]) -> Iterator[Question]:
        """A request for each broker that leads some of the partitions."""
        of_topic = ProduceRequest.TopicProduceData
        led: defaultdict[Any, list[TopicPartition]] = defaultdict(list)
        for partition in batches:
            led[self._manager.cluster.leader_for_partition(partition)].append(partition)
        for partitions in led.values():
            data = [
                of_topic(
                    name=topic,
                    partition_data=[
                        of_topic.PartitionProduceData(index=one.partition, records=batches[one]) for one in several
                    ],
                )
                for topic, several in by_topic(partitions).items()
            ]
            yield (
                partitions[0],
                ProduceRequest(
                    transactional_id=self._id,
                    acks=_ALL_REPLICAS,
                    timeout_ms=ms(connection.ANSWER_S),
                    topic_data=data,
                    min_version=3,
                    max_version=self._kind.produce,
                ),
            )

    def _to_put_down(self, positions: Positions, member: Member) -> Any:
        of_topic = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic
        of_partition = of_topic.TxnOffsetCommitRequestPartition
        topics = [
            of_topic(
                name=topic,
                partitions=[
                    of_partition(
                        partition_index=one.partition,
                        committed_offset=positions[one].offset,
                        committed_leader_epoch=positions[one].leader_epoch,
                        committed_metadata=positions[one].metadata,
                    )
                    for one in several
                ],
            )
            for topic, several in by_topic(positions).items()
        ]
        return TxnOffsetCommitRequest(
            transactional_id=self._id,
            group_id=member.group,
            **self._ours,
            generation_id=member.generation,
            member_id=member.id,
            group_instance_id=None,
            topics=topics,
            max_version=self._kind.positions,
        )


def _next_of(rest: Mapping[TopicPartition, Iterator[bytearray]]) -> dict[TopicPartition, bytearray]:
    """A batch of each partition that has another: a request takes no more."""
    return {partition: batch for partition, batches in rest.items() if (batch := next(batches, None)) is not None}


def _codes(answer: Any) -> list[int]:
    """The error codes in an answer, 0 where all is well."""
    of_partitions: dict[str, Callable[[], list[int]]] = {
        "AddPartitionsToTxnResponse": lambda: [
            code for _, results in answer.results_by_topic_v3_and_below for _, code in results
        ],
        "ProduceResponse": lambda: [one.error_code for topic in answer.responses for one in topic.partition_responses],
        "TxnOffsetCommitResponse": lambda: [code for _, results in answer.topics for _, code in results],
        "FindCoordinatorResponse": lambda: [one.error_code for one in answer.coordinators or [answer]],
    }
    found = of_partitions.get(type(answer).__name__)
    return found() if found else [answer.error_code]
