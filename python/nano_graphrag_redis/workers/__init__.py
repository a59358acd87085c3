"""What the processes of one service show each other: their counters, their hash seeds."""
