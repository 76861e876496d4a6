using Xunit.Sdk;
using Xunit.v3;

namespace GpuTasks.SystemTests;

/// <summary>So that no long one begins when all others have ended. What is not named comes behind.</summary>
public sealed class LongestFirst : ITestCollectionOrderer
{
    private static readonly string[] Long = [BuildsQuickstart.Name, nameof(KillTests), nameof(StoreFaultTests), nameof(SdkTests), nameof(FaultTests)];

    /// <inheritdoc />
    public IReadOnlyCollection<TTestCollection> OrderTestCollections<TTestCollection>(IReadOnlyCollection<TTestCollection> testCollections)
        where TTestCollection : ITestCollection =>
        [.. testCollections.OrderBy(collection => Array.FindIndex(Long, name => collection.TestCollectionDisplayName.Contains(name, StringComparison.Ordinal)) is >= 0 and var place ? place : Long.Length)];
}
