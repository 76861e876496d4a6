namespace GpuTasks.SystemTests;

/// <summary>Tests that need the whole machine; they run when all others have ended.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class WholeMachine
{
    internal const string Name = "Whole machine";
}

/// <summary>Tests of <c>./quickstart</c>, which builds in the checkout, where there is one build at a time.</summary>
[CollectionDefinition(Name)]
public sealed class BuildsQuickstart
{
    internal const string Name = "Quickstart";
}
