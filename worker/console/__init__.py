"""The page of the people at the line: what the topics say, kept in an index, served over HTTP, and their judgements."""
