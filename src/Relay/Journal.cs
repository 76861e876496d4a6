using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace GpuTasks.Relay;

/// <summary>
/// What a power cut must not take: orders and ends of runs, a line of JSON each, appended to one file and synced together
/// however many runs begin and end at once. The files of the runs say the same to whoever reads while the machine lives;
/// they are synced themselves only before the journal is begun anew.
/// </summary>
internal sealed class Journal
{
    /// <summary>Longest answer that stands in the journal; a longer one is synced as a file.</summary>
    internal const int MaxAnswerBytes = 16 * 1024;

    private const long MaxBytes = 4 * 1024 * 1024;

    private readonly object gate = new();
    private readonly Box box;
    private List<Entry> waiting = [];
    private SafeFileHandle? file;
    private long length;

    internal Journal(Box box)
    {
        this.box = box;
        new Thread(Run, maxStackSize: 256 * 1024) { IsBackground = true, Name = "journal" }.Start();
    }

    /// <summary>Appends a line; it is on disk when the task completes.</summary>
    /// <exception cref="IOException">It may be there or not.</exception>
    internal Task AppendAsync(JournalLine line)
    {
        var entry = new Entry([.. JsonSerializer.SerializeToUtf8Bytes(line, Json.Default.JournalLine), (byte)'\n']);
        lock (gate)
        {
            waiting.Add(entry);
            Monitor.Pulse(gate);
        }

        return entry.Done.Task;
    }

    private void Run()
    {
        while (true)
        {
            List<Entry> batch;
            lock (gate)
            {
                while (waiting.Count == 0)
                {
                    Monitor.Wait(gate);
                }

                (batch, waiting) = (waiting, []);
            }

            try
            {
                Write(batch);
                batch.ForEach(entry => entry.Done.TrySetResult());
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Nobody knows what of it is on disk, so the next line is the first of a new file.
                file?.Dispose();
                file = null;
                batch.ForEach(entry => entry.Done.TrySetException(new IOException(e.Message, e)));
            }
        }
    }

    private void Write(List<Entry> batch)
    {
        if (file is null || length > MaxBytes)
        {
            BeginAnew();
        }

        RandomAccess.Write(file!, batch.ConvertAll(entry => new ReadOnlyMemory<byte>(entry.Line)), length);
        RandomAccess.FlushToDisk(file!);
        length += batch.Sum(entry => (long)entry.Line.Length);
    }

    private void BeginAnew()
    {
        foreach (var folder in Directory.GetDirectories(box.RunsPath).Where(folder => RunFiles.IsValidId(Path.GetFileName(folder))))
        {
            foreach (var path in Directory.GetFiles(folder))
            {
                SyncIfThere(path);
            }

            SyncIfThere(folder);
        }

        Box.Sync(box.RunsPath);
        file?.Dispose();
        file = Box.Create(box.JournalPath);
        length = 0;
        RandomAccess.FlushToDisk(file);
        Box.Sync(box.Root);
    }

    /// <summary>A run that was forgotten meanwhile needs no syncing.</summary>
    private static void SyncIfThere(string path)
    {
        try
        {
            Box.Sync(path);
        }
        catch (IOException) when (!Path.Exists(path))
        {
        }
    }

    private sealed record Entry(byte[] Line)
    {
        internal TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
