"""The subcommands of `tfprune`: their options, and what they print."""
