using System.Globalization;
using Microsoft.Win32.SafeHandles;

namespace GpuTasks.Relay;

/// <summary>
/// A byte stream kept in files named by the offset of their first byte; the oldest go when the whole grows beyond its bound.
/// Not safe for several threads; <see cref="LogPump"/> takes care of that.
/// </summary>
internal sealed class LogSegments : IDisposable
{
    private readonly string folder;
    private readonly long totalBytes;
    private readonly long segmentBytes;
    private readonly Queue<(long Offset, long Bytes)> closed = new();
    private SafeFileHandle? file;
    private long fileOffset;
    private long fileBytes;
    private long kept;
    private bool failing;

    internal LogSegments(string folder, long totalBytes, long segmentBytes)
    {
        this.folder = folder;
        this.totalBytes = Math.Max(1, totalBytes);
        this.segmentBytes = Math.Clamp(segmentBytes, 1, this.totalBytes);
        Directory.CreateDirectory(folder);
        foreach (var (offset, bytes) in Found())
        {
            closed.Enqueue((offset, bytes));
            kept += bytes;
            End = Math.Max(End, offset + bytes);
        }
    }

    /// <summary>Offset of the first byte still kept.</summary>
    internal long Start => closed.Count > 0 ? closed.Peek().Offset : file is null ? End : fileOffset;

    /// <summary>Offset behind the last byte taken in.</summary>
    internal long End { get; private set; }

    internal void Append(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var part = bytes[..(int)Math.Min(bytes.Length, segmentBytes - (file is null ? 0 : fileBytes))];
            if (!TryWrite(part))
            {
                // The offset goes on, so a reader sees the hole; the function must not be held up.
                Close();
            }

            End += part.Length;
            bytes = bytes[part.Length..];
            if (fileBytes >= segmentBytes)
            {
                Close();
            }

            DropOldest();
        }
    }

    public void Dispose() => Close();

    private bool TryWrite(ReadOnlySpan<byte> part)
    {
        try
        {
            if (file is null)
            {
                file = Box.Create(Path.Combine(folder, NameOf(End)));
                fileOffset = End;
                fileBytes = 0;
            }

            RandomAccess.Write(file, part, fileBytes);
            fileBytes += part.Length;
            kept += part.Length;
            failing = false;
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (!failing)
            {
                Words.Say($"output is being lost: {e.Message}");
            }

            failing = true;
            return false;
        }
    }

    private void Close()
    {
        if (file is null)
        {
            return;
        }

        file.Dispose();
        file = null;
        closed.Enqueue((fileOffset, fileBytes));
        fileBytes = 0;
    }

    private void DropOldest()
    {
        while (kept > totalBytes && closed.TryDequeue(out var oldest))
        {
            kept -= oldest.Bytes;
            try
            {
                File.Delete(Path.Combine(folder, NameOf(oldest.Offset)));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Words.Say($"cannot delete old output: {e.Message}");
            }
        }
    }

    /// <summary>What an earlier relay in the same box left.</summary>
    private List<(long Offset, long Bytes)> Found()
    {
        var found = new List<(long, long)>();
        foreach (var path in Directory.EnumerateFiles(folder, "*.log"))
        {
            if (long.TryParse(Path.GetFileNameWithoutExtension(path), NumberStyles.None, CultureInfo.InvariantCulture, out var offset))
            {
                found.Add((offset, new FileInfo(path).Length));
            }
        }

        found.Sort();
        return found;
    }

    private static string NameOf(long offset) => offset.ToString("D20", CultureInfo.InvariantCulture) + ".log";
}
