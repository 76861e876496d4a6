using System.Globalization;
using System.Runtime.InteropServices;

namespace GpuTasks.SystemTests;

/// <summary>One run as its container saw it; times by the machine's monotonic clock, in milliseconds.</summary>
/// <param name="Id">Unique for each start of a run.</param>
/// <param name="Task">Task id.</param>
/// <param name="Instance">Instance that ran it.</param>
/// <param name="Began">When it began.</param>
/// <param name="LastSeen">When it last said that it lives.</param>
/// <param name="Answered">Whether it came to its answer.</param>
internal sealed record SeenRun(string Id, string Task, string Instance, long Began, long LastSeen, bool Answered);

/// <summary>
/// Keeps what the functions themselves write about their runs, also after their instances are gone: each instance's trace
/// file is a second name of a file that lies here.
/// </summary>
internal sealed partial class Recorder : IAsyncDisposable
{
    private readonly string folder;
    private readonly string[] nodes;
    private readonly CancellationTokenSource ending = new();
    private readonly Task watching;

    /// <param name="folder">Where to keep them; on the same file system as the nodes' folders.</param>
    /// <param name="nodes">Folders of the nodes' instances.</param>
    public Recorder(string folder, IEnumerable<string> nodes)
    {
        this.folder = folder;
        this.nodes = [.. nodes];
        Directory.CreateDirectory(folder);
        watching = Task.Factory.StartNew(Watch, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    /// <summary>Every run that was ever seen.</summary>
    public List<SeenRun> Runs()
    {
        var runs = new Dictionary<string, SeenRun>();
        foreach (var path in Directory.EnumerateFiles(folder))
        {
            foreach (var line in File.ReadLines(path))
            {
                var words = line.Split(' ');
                if (words.Length < 3 || !long.TryParse(words[2], NumberStyles.None, CultureInfo.InvariantCulture, out var at))
                {
                    continue; // A line that is being written.
                }

                if (words is ["began", var id, _, var task])
                {
                    runs[id] = new SeenRun(id, task, Path.GetFileName(path), at, at, Answered: false);
                }
                else if (runs.TryGetValue(words[1], out var run) && !run.Answered)
                {
                    runs[words[1]] = run with { LastSeen = at, Answered = words[0] == "ended" };
                }
            }
        }

        return [.. runs.Values];
    }

    public async ValueTask DisposeAsync()
    {
        await ending.CancelAsync();
        await watching;
        ending.Dispose();
    }

    private void Watch()
    {
        while (!ending.IsCancellationRequested)
        {
            foreach (var node in nodes.Where(Directory.Exists))
            {
                foreach (var instance in Directory.EnumerateDirectories(node))
                {
                    Keep(instance);
                }
            }

            Thread.Sleep(20);
        }
    }

    private void Keep(string instance)
    {
        var box = Path.Combine(instance, "box");
        var trace = Path.Combine(box, "trace");
        if (File.Exists(trace) || !File.Exists(Path.Combine(box, "config.json")))
        {
            return;
        }

        var kept = Path.Combine(folder, Path.GetFileName(instance));
        if (!File.Exists(kept))
        {
            File.WriteAllText(kept, "");
            File.SetUnixFileMode(kept, (UnixFileMode)0b110_110_110);
        }

        // It fails if the box goes or is being made at this moment, is tried again.
        _ = Link(kept, trace);
    }

    [LibraryImport("libc", EntryPoint = "link", StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Link(string existing, string name);
}
