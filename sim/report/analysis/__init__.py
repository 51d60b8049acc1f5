"""The numbers and sentences of a report, without plots or HTML."""
