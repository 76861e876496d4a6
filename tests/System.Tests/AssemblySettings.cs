using Xunit.Sdk;
using Xunit.v3;

// Every test starts processes and containers of its own and measures their times: side by side they would slow each other down.
[assembly: Parallelization(Mode = ParallelMode.None)]
