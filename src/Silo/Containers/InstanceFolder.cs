using System.Collections.Concurrent;
using System.Globalization;
using GpuTasks.Nodes;

namespace GpuTasks.Containers;

/// <summary>How an instance is to be stopped. Grows only.</summary>
internal enum StopMode
{
    /// <summary>It stays.</summary>
    None = 0,

    /// <summary>Its runs end first.</summary>
    Graceful = 1,

    /// <summary>Its runs are ended.</summary>
    Forced = 2,
}

/// <summary>What the agent knows about an instance beyond its order.</summary>
internal sealed record InstanceMemo
{
    public DateTimeOffset CreatedAt { get; init; }

    /// <summary>True from just before the container's first start: a container that is missing later has been lost.</summary>
    public bool Started { get; init; }

    /// <summary>Boot of the machine in which it was launched; after another, nothing of it can have gone on.</summary>
    public string BootId { get; init; } = "";

    /// <summary>True once the relay said ready.</summary>
    public bool WasReady { get; init; }

    public StopMode Stop { get; init; }

    public LaunchFailure? Failure { get; init; }
}

/// <summary>An instance's place on disk: enough to go on after the agent was killed at any moment.</summary>
internal sealed class InstanceFolder
{
    private const string OrderName = "order.json";
    private const int MaxSpares = 256;
    private readonly string path;

    // Files of acknowledged runs, for the next ones: file systems are slow at making files where as many were just deleted.
    private readonly ConcurrentStack<string> spares = new();
    private int made;

    public InstanceFolder(string instances, string instanceId)
    {
        path = Path.Combine(instances, instanceId);
        Box = new Box(Path.Combine(path, "box"));
    }

    /// <summary>The shared part.</summary>
    public Box Box { get; }

    /// <summary>Makes the folder; the order is written last, so that a folder without one was never accepted.</summary>
    public void Make(LaunchOrder order, InstanceMemo memo)
    {
        DiskFiles.MakeFolder(path, DiskFiles.PrivateFolder);
        DiskFiles.MakeFolder(Path.Combine(path, "runs"), DiskFiles.PrivateFolder);
        SaveMemo(memo);
        SaveOrder(order);
    }

    public void SaveOrder(LaunchOrder order) => DiskFiles.Save(Path.Combine(path, OrderName), order);

    /// <summary>Makes an empty box with the relay's configuration in it.</summary>
    public void MakeBox(RelayConfig config)
    {
        if (Directory.Exists(Box.Path))
        {
            Directory.Delete(Box.Path, recursive: true);
        }

        DiskFiles.MakeFolder(Box.Path, DiskFiles.OpenFolder);
        var file = Path.Combine(Box.Path, "config.json");
        File.WriteAllBytes(file, System.Text.Json.JsonSerializer.SerializeToUtf8Bytes(config, RelayJson.Options));
        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
    }

    /// <summary>The order, or null if the folder was never finished.</summary>
    public LaunchOrder? LoadOrder() => DiskFiles.Load<LaunchOrder>(Path.Combine(path, OrderName));

    public InstanceMemo LoadMemo() => DiskFiles.Load<InstanceMemo>(Path.Combine(path, "memo.json")) ?? new InstanceMemo();

    public void SaveMemo(InstanceMemo memo) => DiskFiles.Save(Path.Combine(path, "memo.json"), memo);

    public void SaveRun(RunRecord run) => DiskFiles.Save(RunPath(run.RunId), run);

    /// <summary>Writes a new run down; see <see cref="DiskFiles.SaveSoon"/>.</summary>
    public Task SaveNewRun(RunRecord run) => DiskFiles.SaveSoon(RunPath(run.RunId), run, spares.TryPop(out var spare) ? spare : RunPath(run.RunId) + ".tmp");

    public RunRecord? LoadRun(string runId) => DiskFiles.Load<RunRecord>(RunPath(runId));

    public void DeleteRun(string runId)
    {
        if (spares.Count >= MaxSpares)
        {
            File.Delete(RunPath(runId));
            return;
        }

        try
        {
            var spare = Path.Combine(path, "runs", string.Create(CultureInfo.InvariantCulture, $"spare-{Interlocked.Increment(ref made)}"));
            File.Move(RunPath(runId), spare, overwrite: true);
            spares.Push(spare);
        }
        catch (FileNotFoundException)
        {
            // Deleted before.
        }
    }

    /// <summary>Every run the agent handed over, or tried to, and has not acknowledged.</summary>
    public IReadOnlyList<RunRecord> LoadRuns()
    {
        var runs = Path.Combine(path, "runs");
        return Directory.Exists(runs)
            ? [.. Directory.EnumerateFiles(runs, "*.json").Select(file => DiskFiles.Load<RunRecord>(file)).OfType<RunRecord>()]
            : [];
    }

    /// <summary>Writes down that a run was acknowledged, so that a late repeat of its order does not run it again.</summary>
    public void AppendDone(string runId) => File.AppendAllText(Path.Combine(path, "done"), runId + "\n");

    /// <summary>Ids of acknowledged runs, oldest first.</summary>
    public IReadOnlyList<string> LoadDone()
    {
        var done = Path.Combine(path, "done");
        return File.Exists(done) ? File.ReadAllLines(done) : [];
    }

    /// <summary>Removes the box, after the container is gone.</summary>
    public void DeleteBox()
    {
        if (Directory.Exists(Box.Path))
        {
            Directory.Delete(Box.Path, recursive: true);
        }
    }

    /// <summary>Removes everything.</summary>
    public void Delete()
    {
        if (Directory.Exists(path))
        {
            // Without its order the folder is unfinished, so a death in the middle of this leaves no ghost.
            File.Delete(Path.Combine(path, OrderName));
            Directory.Delete(path, recursive: true);
        }
    }

    private string RunPath(string runId) => Path.Combine(path, "runs", runId + ".json");
}
