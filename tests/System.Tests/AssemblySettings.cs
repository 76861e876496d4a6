using Xunit.Sdk;
using Xunit.v3;

// Most of these tests wait most of the time, so two go side by side. More would only make each wait longer on a small machine.
[assembly: Parallelization(Mode = ParallelMode.Collections, MaxThreads = 2)]
[assembly: TestCollectionOrderer(typeof(GpuTasks.SystemTests.LongestFirst))]
