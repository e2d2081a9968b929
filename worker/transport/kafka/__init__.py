"""Apache Kafka by kafka-python, which no other package imports. docs/kafka.md says what the settings are for."""
