using Xunit.v3;

// Each test starts processes; more at once than there are processors only makes each of them slower.
[assembly: Parallelization(MaxThreads = 4)]
