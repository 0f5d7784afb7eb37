"""Everything that fills the registry. Each source: watch (I/O) and parse (pure)."""
