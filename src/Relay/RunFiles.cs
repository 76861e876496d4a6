using System.Globalization;
using System.Text.Json;

namespace GpuTasks.Relay;

/// <summary>The runs on disk. A run exists there from <c>order.json</c> on; its last act is <c>state.json</c>. <see cref="Journal"/> makes both durable.</summary>
internal sealed class RunFiles
{
    /// <summary>Not a name of a run.</summary>
    private const string SparePrefix = ".spare-";

    private const int MaxSpares = 256;

    /// <summary>Longest file that is kept for the next run.</summary>
    private const long MaxSpareBytes = 64 * 1024;

    private readonly Box box;
    private readonly Journal journal;

    // Folders of forgotten runs, for the next ones: file systems are slow at making files where as many were just deleted.
    private readonly Lock gate = new();
    private readonly Stack<string> spares = new();
    private int made;

    internal RunFiles(Box box)
    {
        this.box = box;
        journal = new Journal(box);
        Directory.CreateDirectory(box.RunsPath);
    }

    internal string RequestPath(string runId) => Path.Combine(box.RunPath(runId), "request");

    internal string ResponsePath(string runId) => Path.Combine(box.RunPath(runId), "response");

    private string OrderPath(string runId) => Path.Combine(box.RunPath(runId), "order.json");

    private string StatePath(string runId) => Path.Combine(box.RunPath(runId), "state.json");

    /// <summary>1 to 200 of letters, digits, <c>_</c>, <c>-</c>, <c>.</c>, not starting with <c>.</c>: always a plain file name.</summary>
    internal static bool IsValidId(string id) =>
        id.Length is >= 1 and <= 200 && id[0] != '.' && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '.');

    /// <summary>Makes the run durable: first what it needs, then the file that makes it exist.</summary>
    internal async Task CreateAsync(string runId, RunOrder order, Func<string, Task> saveBody)
    {
        Delete(runId);
        string? spare;
        lock (gate)
        {
            _ = spares.TryPop(out spare);
        }

        if (spare is null)
        {
            Directory.CreateDirectory(box.RunPath(runId));
        }
        else
        {
            Directory.Move(spare, box.RunPath(runId));
        }

        await saveBody(RequestPath(runId));
        Box.Overwrite(OrderPath(runId), JsonSerializer.SerializeToUtf8Bytes(order, Json.Default.RunOrder));
        await journal.AppendAsync(new JournalLine { RunId = runId, Order = order });
    }

    /// <summary>Makes a run's end durable, with its answer.</summary>
    internal async Task SaveEndAsync(RunDocument run)
    {
        var response = ResponsePath(run.RunId);
        string? answer = null;
        if (run.Outcome != Outcomes.Answered)
        {
            File.Delete(response);
        }
        else if (run.ResponseBytes <= Journal.MaxAnswerBytes)
        {
            answer = Convert.ToBase64String(await File.ReadAllBytesAsync(response));
        }
        else
        {
            Box.Sync(response);
            Box.Sync(box.RunPath(run.RunId));
        }

        Box.Overwrite(StatePath(run.RunId), JsonSerializer.SerializeToUtf8Bytes(run, Json.Default.RunDocument));
        await journal.AppendAsync(new JournalLine { RunId = run.RunId, End = run, Answer = answer });
    }

    /// <summary>Forgets a run. The order goes first, for without it the rest is only waste.</summary>
    internal void Delete(string runId)
    {
        if (!Directory.Exists(box.RunPath(runId)))
        {
            return;
        }

        // One that never ended has no room to be kept in, perhaps.
        string? spare = null;
        var ended = File.Exists(OrderPath(runId)) && File.Exists(StatePath(runId));
        lock (gate)
        {
            if (ended && spares.Count < MaxSpares)
            {
                spare = box.RunPath(string.Create(CultureInfo.InvariantCulture, $"{SparePrefix}{made++}"));
            }
        }

        if (spare is null)
        {
            File.Delete(OrderPath(runId));
            Directory.Delete(box.RunPath(runId), recursive: true);
            return;
        }

        Box.Overwrite(OrderPath(runId), "\n"u8);
        Box.Overwrite(StatePath(runId), "\n"u8);
        DeleteIfLong(RequestPath(runId));
        DeleteIfLong(ResponsePath(runId));
        Directory.Move(box.RunPath(runId), spare);
        lock (gate)
        {
            spares.Push(spare);
        }
    }

    private static void DeleteIfLong(string path)
    {
        if (new FileInfo(path) is { Exists: true, Length: > MaxSpareBytes })
        {
            File.Delete(path);
        }
    }

    /// <summary>
    /// What an earlier relay in the same box left. A run without an end was under way when that relay died; nobody knows how far
    /// it came, so it is over and is not started again.
    /// </summary>
    internal IEnumerable<(RunOrder Order, RunDocument Document)> Load()
    {
        foreach (var folder in Directory.GetDirectories(box.RunsPath))
        {
            var runId = Path.GetFileName(folder);
            if (Read(OrderPath(runId), Json.Default.RunOrder) is not { } order)
            {
                Directory.Delete(folder, recursive: true);
                continue;
            }

            if (Read(StatePath(runId), Json.Default.RunDocument) is not { State: RunStates.Ended } document)
            {
                document = new RunDocument
                {
                    RunId = runId,
                    State = RunStates.Ended,
                    Context = order.Context,
                    Outcome = Outcomes.Crashed,
                    Message = "The instance was started anew while the run was under way.",
                };
                Box.WriteDurably(StatePath(runId), JsonSerializer.SerializeToUtf8Bytes(document, Json.Default.RunDocument));
            }

            yield return (order, document);
        }
    }

    private static T? Read<T>(string path, System.Text.Json.Serialization.Metadata.JsonTypeInfo<T> type)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllBytes(path), type);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }
}
