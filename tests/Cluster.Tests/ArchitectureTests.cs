using System.Reflection;

namespace GpuTasks.Tests;

/// <summary>References point inward: Silo → Grains → Grains.Interfaces ← Gateway, and Silo → Gateway to map its endpoints.</summary>
public sealed class ArchitectureTests
{
    [Theory]
    [InlineData("GpuTasks.Grains.Interfaces")]
    [InlineData("GpuTasks.Grains", "GpuTasks.Grains.Interfaces")]
    [InlineData("GpuTasks.Gateway", "GpuTasks.Grains.Interfaces")]
    [InlineData("GpuTasks.Silo", "GpuTasks.Gateway", "GpuTasks.Grains", "GpuTasks.Grains.Interfaces")]
    public void An_assembly_references_only_what_lies_further_in(string assembly, params string[] allowed) =>
        Assert.Equal(allowed, References(assembly).Where(name => name.StartsWith("GpuTasks.", StringComparison.Ordinal)).Order());

    [Theory]
    [InlineData("GpuTasks.Grains")]
    [InlineData("GpuTasks.Gateway")]
    [InlineData("GpuTasks.Grains.Interfaces")]
    public void Only_the_silo_knows_the_engine_and_the_databases(string assembly) =>
        Assert.DoesNotContain(References(assembly), name => name is "Docker.DotNet" or "Npgsql" or "Microsoft.Data.Sqlite");

    private static IEnumerable<string> References(string assembly) =>
        Assembly.Load(assembly).GetReferencedAssemblies().Select(name => name.Name!);
}
