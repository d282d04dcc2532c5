//! Private, throw-away servers for pgfanout's tests.
