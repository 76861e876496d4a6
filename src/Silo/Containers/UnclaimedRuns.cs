using GpuTasks.Nodes;

namespace GpuTasks.Containers;

/// <summary>
/// Ends of runs whose tasks the store does not have, because it was set back to an earlier time: kept on the node's disk for
/// the operator, report and answer in one file each, the newest thousand of them.
/// </summary>
internal sealed class UnclaimedRuns(string dataDirectory)
{
    private const int Limit = 1_000;
    private readonly string root = Path.Combine(dataDirectory, "unclaimed");
    private int count = Count(Path.Combine(dataDirectory, "unclaimed"));

    /// <summary>What an operator should know of them; null if there are none.</summary>
    public string? Fact => count == 0
        ? null
        : $"{count} runs ended here whose tasks the store does not have; their answers are in {root}.";

    /// <summary>Keeps an end; on disk when this returns. Idempotent.</summary>
    public void Keep(RunReport report)
    {
        var folder = Path.Combine(root, report.Task!.Value.Account, report.Task.Value.Function);
        Directory.CreateDirectory(folder);
        DiskFiles.Save(Path.Combine(folder, $"{report.RunId}.json"), report);
        foreach (var old in Files(root).OrderByDescending(file => file.LastWriteTimeUtc).Skip(Limit))
        {
            old.Delete();
        }

        count = Count(root);
    }

    private static int Count(string root) => Files(root).Count();

    private static IEnumerable<FileInfo> Files(string root) => Directory.Exists(root)
        ? new DirectoryInfo(root).EnumerateFiles("*.json", SearchOption.AllDirectories)
        : [];
}
