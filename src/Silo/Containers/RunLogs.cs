using System.Globalization;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Containers;

/// <summary>What ended runs printed, kept on the node's disk after their instances are gone, within limits.</summary>
internal sealed class RunLogs(string dataDirectory, long totalBytes, TimeSpan retention)
{
    private const int ChunkBytes = 1 << 20;
    private readonly string root = Path.Combine(dataDirectory, "logs");

    /// <summary>Copies a run's part of an instance's log. Idempotent: the last copy stands.</summary>
    /// <param name="task">Task.</param>
    /// <param name="attempt">Attempt.</param>
    /// <param name="box">Where the instance's log is.</param>
    /// <param name="from">Offset of the run's first byte.</param>
    /// <param name="to">Offset after its last byte.</param>
    /// <param name="limit">Most bytes to keep; the oldest go.</param>
    /// <returns>The last bytes, for the report.</returns>
    public byte[] Archive(TaskKey task, int attempt, Box box, long from, long to, long limit)
    {
        var path = PathOf(task, attempt);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var temporary = path + ".tmp";
        // The end of an instance that broke down may be unknown: then everything that is there belongs to the run.
        var position = to == long.MaxValue ? from : Math.Max(from, to - limit);
        var first = position;
        byte[] tail;
        using (var file = new FileStream(temporary, FileMode.Create, FileAccess.ReadWrite))
        {
            while (position < to && file.Length < limit)
            {
                var (start, bytes) = box.ReadLog(position, to, ChunkBytes);
                if (bytes.Length == 0)
                {
                    break;
                }

                if (start != position)
                {
                    // Something before this is no longer kept; what is left must be in one piece.
                    file.SetLength(0);
                    first = start;
                }

                file.Write(bytes);
                position = start + bytes.Length;
            }

            tail = new byte[Math.Min(file.Length, RunReports.LogTailLimit)];
            file.Position = file.Length - tail.Length;
            file.ReadExactly(tail);
        }

        if (first > from)
        {
            DiskFiles.Save(IndexOf(path), new LogIndex(first - from));
        }
        else
        {
            File.Delete(IndexOf(path));
        }

        File.Move(temporary, path, overwrite: true);
        return tail;
    }

    /// <summary>Part of an ended run's log, or null if none is kept here.</summary>
    public LogChunk? Read(TaskKey task, int attempt, long cursor, int limit)
    {
        var path = PathOf(task, attempt);
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            var dropped = DiskFiles.Load<LogIndex>(IndexOf(path))?.DroppedBytes ?? 0;
            var start = Math.Max(cursor, dropped);
            var offset = Math.Min(start - dropped, file.Length);
            var bytes = new byte[Math.Min(limit, file.Length - offset)];
            file.Position = offset;
            file.ReadExactly(bytes);
            var next = dropped + offset + bytes.Length;
            return new LogChunk(bytes, next, Math.Max(0, dropped - cursor), offset + bytes.Length == file.Length);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Deletes what is too old, then the oldest beyond the total.</summary>
    /// <returns>Number of logs deleted.</returns>
    public int Trim(DateTime utcNow)
    {
        if (!Directory.Exists(root))
        {
            return 0;
        }

        var files = new DirectoryInfo(root).EnumerateFiles("*.log", SearchOption.AllDirectories)
            .OrderByDescending(file => file.LastWriteTimeUtc)
            .ToList();
        long kept = 0;
        var deleted = 0;
        foreach (var file in files)
        {
            kept += file.Length;
            if (kept <= totalBytes && utcNow - file.LastWriteTimeUtc <= retention)
            {
                continue;
            }

            kept -= file.Length;
            file.Delete();
            File.Delete(IndexOf(file.FullName));
            deleted++;
        }

        return deleted;
    }

    /// <exception cref="ArgumentException">A part of the key could mean another path.</exception>
    private string PathOf(TaskKey task, int attempt) =>
        SafeName.IsValid(task.Account, 128) && SafeName.IsValid(task.Function, 128) && SafeName.IsValid(task.TaskId, 200)
            ? Path.Combine(root, task.Account, task.Function, string.Create(CultureInfo.InvariantCulture, $"{task.TaskId}.{attempt}.log"))
            : throw new ArgumentException($"'{task}' cannot name a log.", nameof(task));

    private static string IndexOf(string path) => Path.ChangeExtension(path, ".json");

    /// <summary>Beside a log: how much of its start was no longer kept when it was copied.</summary>
    private sealed record LogIndex(long DroppedBytes);
}
