"""Everything that crosses to another node: endpoint, DHT, pubsub, exchange."""
