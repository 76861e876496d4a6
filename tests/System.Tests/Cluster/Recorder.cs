using System.Globalization;
using System.Runtime.InteropServices;

namespace GpuTasks.SystemTests;

/// <summary>One run as its container saw it; times by the machine's monotonic clock, in milliseconds.</summary>
/// <param name="Id">Unique for each start of a run.</param>
/// <param name="Task">Task id.</param>
/// <param name="Instance">Instance that ran it.</param>
/// <param name="Node">Number of the node that the instance is on, from 0.</param>
/// <param name="Began">When it began.</param>
/// <param name="LastSeen">When it last said that it lives.</param>
/// <param name="Answered">Whether it came to its answer.</param>
internal sealed record SeenRun(string Id, string Task, string Instance, int Node, long Began, long LastSeen, bool Answered);

/// <summary>
/// Keeps what the functions themselves write about their runs, also after their instances are gone: each instance's trace
/// file is a second name of a file that lies here.
/// </summary>
internal sealed partial class Recorder : IAsyncDisposable
{
    private const int SpareFiles = 8;
    private const long FileBytes = 256 << 10;
    private const int KeepSize = 1;
    private readonly string[] nodes;
    private readonly CancellationTokenSource ending = new();
    private readonly Task watching;

    /// <param name="nodes">Folders of the nodes' instances. What is kept lies in a folder beside each, on the same disk.</param>
    public Recorder(IEnumerable<string> nodes)
    {
        this.nodes = [.. nodes];
        foreach (var node in this.nodes)
        {
            Directory.CreateDirectory(KeptOf(node));
            Directory.CreateDirectory(SparesOf(node));
        }

        watching = Task.Factory.StartNew(Watch, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    /// <summary>Every run that was ever seen, on one node or on all.</summary>
    public List<SeenRun> Runs(int? only = null)
    {
        var runs = new Dictionary<string, SeenRun>();
        foreach (var (node, path) in nodes.SelectMany((node, number) => Directory.EnumerateFiles(KeptOf(node)).Select(path => (number, path))).Where(file => only is null || file.number == only))
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
                    runs[id] = new SeenRun(id, task, Path.GetFileName(path), node, at, at, Answered: false);
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
                MakeSpares(node);
                foreach (var instance in Directory.EnumerateDirectories(node))
                {
                    Keep(node, instance);
                }
            }

            Thread.Sleep(20);
        }
    }

    private static string KeptOf(string node) => Path.Combine(Path.GetDirectoryName(node)!, "traces");

    private static string SparesOf(string node) => Path.Combine(Path.GetDirectoryName(node)!, "spare-traces");

    private static void Keep(string node, string instance)
    {
        var box = Path.Combine(instance, "box");
        var trace = Path.Combine(box, "trace");
        if (File.Exists(trace) || !File.Exists(Path.Combine(box, "config.json")))
        {
            return;
        }

        var kept = Path.Combine(KeptOf(node), Path.GetFileName(instance));
        if (!File.Exists(kept))
        {
            if (Directory.EnumerateFiles(SparesOf(node)).FirstOrDefault() is not { } spare)
            {
                return; // The disk is full; it is tried again.
            }

            File.Move(spare, kept);
        }

        // It fails if the box goes or is being made at this moment, is tried again.
        _ = Link(kept, trace);
    }

    /// <summary>Files whose room on the disk is theirs already, so that a run is recorded on a full one too.</summary>
    private static void MakeSpares(string node)
    {
        for (var n = Directory.EnumerateFiles(SparesOf(node)).Count(); n < SpareFiles; n++)
        {
            var draft = Path.Combine(Path.GetDirectoryName(node)!, "spare-trace.tmp");
            using (var file = File.OpenHandle(draft, FileMode.Create, FileAccess.Write))
            {
                if (Allocate(file, KeepSize, 0, FileBytes) != 0)
                {
                    return;
                }
            }

            File.SetUnixFileMode(draft, (UnixFileMode)0b110_110_110);
            File.Move(draft, Path.Combine(SparesOf(node), Guid.NewGuid().ToString("N")));
        }
    }

    [LibraryImport("libc", EntryPoint = "fallocate")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Allocate(Microsoft.Win32.SafeHandles.SafeFileHandle file, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "link", StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Link(string existing, string name);
}
