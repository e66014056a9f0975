"""One file a command.  Each has `configure(parser)`, which declares its options, and `run(args) -> int`, its exit status:
0 all is well, 1 the answer is "no", 2 the question was malformed.  Results go to stdout, progress to stderr."""
