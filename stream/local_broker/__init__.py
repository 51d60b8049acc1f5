"""`hstu broker`: one Apache Kafka node on loopback, with the Java and the jars that it needs."""
