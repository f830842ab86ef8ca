"""From a registered version to the model in use: the gate, the aliases that a person moves, and the record of every hand-over."""
