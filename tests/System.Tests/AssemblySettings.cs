using Xunit.Sdk;
using Xunit.v3;

// Most of these tests wait most of the time. More of them at once than the least of machines has processors for would make each
// wait longer, and say nothing of the platform.
[assembly: Parallelization(Mode = ParallelMode.Collections, MaxThreads = 3)]
[assembly: TestCollectionOrderer(typeof(GpuTasks.SystemTests.LongestFirst))]
