using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace GpuTasks.Relay;

/// <summary>First line and headers of a message; names are found in any case, repeated ones are joined by a comma.</summary>
internal sealed class HttpHead(string firstLine)
{
    internal string FirstLine { get; } = firstLine;

    internal Dictionary<string, string> Headers { get; } = new(StringComparer.OrdinalIgnoreCase);

    /// <summary>Names and values in turn as they came, repeated ones too.</summary>
    internal List<string> Lines { get; } = [];

    internal string this[string name] => Headers.GetValueOrDefault(name, "");

    internal bool Chunked => this["transfer-encoding"].EndsWith("chunked", StringComparison.OrdinalIgnoreCase);

    internal bool AsksToClose => this["connection"].Contains("close", StringComparison.OrdinalIgnoreCase);

    /// <summary>The length stated, null when none is, below 0 when it makes no sense.</summary>
    internal long? ContentLength => this["content-length"] is not { Length: > 0 } text ? null
        : long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var length) ? length : -1;
}

/// <summary>The peer does not speak HTTP/1.1 as it should, or broke off.</summary>
internal sealed class HttpWireException(string message) : IOException(message);

/// <summary>
/// Reads HTTP/1.1 messages from a socket, one after the other: the same few rules for requests of the agent and answers of the function.
/// </summary>
internal sealed class HttpReader(Socket socket)
{
    /// <summary>Most bytes of first line and headers together, and of the trailers of one body.</summary>
    internal const int MaxHeadBytes = 64 * 1024;

    private const int MaxChunkLineBytes = 4096;

    private enum Framing
    {
        None,
        Length,
        Chunked,
        UntilClose,
    }

    private byte[] buffer = new byte[8 * 1024];
    private int start;
    private int end;
    private Framing framing;
    private long left;
    private bool betweenChunks;

    /// <summary>True when the body has been read to its end.</summary>
    internal bool BodyEnded { get; private set; } = true;

    /// <summary>True when only the peer's closing tells where the body ends.</summary>
    internal bool EndsByClose => framing == Framing.UntilClose;

    /// <summary>The next head, or null when the peer closed instead of sending one.</summary>
    internal async ValueTask<HttpHead?> ReadHeadAsync(CancellationToken cancellationToken)
    {
        var budget = MaxHeadBytes;
        string? line;
        do
        {
            line = await ReadLineAsync(budget, cancellationToken);
            if (line is null)
            {
                return null;
            }

            budget -= line.Length + 2;
        }
        while (line.Length == 0);

        var head = new HttpHead(line);
        while (await ReadLineAsync(budget, cancellationToken) is var header && header is not "")
        {
            if (header is null)
            {
                throw new HttpWireException("The connection was closed within the headers.");
            }

            budget -= header.Length + 2;
            var colon = header.IndexOf(':', StringComparison.Ordinal);
            if (colon <= 0)
            {
                throw new HttpWireException("A header has no name.");
            }

            var name = header[..colon];
            var value = header[(colon + 1)..].Trim();
            head.Lines.Add(name);
            head.Lines.Add(value);
            head.Headers[name] = head.Headers.TryGetValue(name, out var earlier) ? $"{earlier}, {value}" : value;
        }

        return head;
    }

    internal void ExpectNoBody()
    {
        framing = Framing.None;
        BodyEnded = true;
    }

    /// <summary>Sets how the body after this head ends.</summary>
    /// <param name="head">The head just read.</param>
    /// <param name="untilClose">Whether, without a length, the body goes on to the end of the connection; else there is none.</param>
    internal void ExpectBody(HttpHead head, bool untilClose)
    {
        if (head.Chunked)
        {
            (framing, left, betweenChunks) = (Framing.Chunked, 0, false);
        }
        else if (head.ContentLength is { } length)
        {
            (framing, left) = length >= 0 ? (Framing.Length, length) : throw new HttpWireException("The content length is no number.");
        }
        else
        {
            framing = untilClose ? Framing.UntilClose : Framing.None;
        }

        BodyEnded = framing == Framing.None || (framing == Framing.Length && left == 0);
    }

    /// <summary>Reads some of the body; 0 at its end. A body that breaks off throws.</summary>
    internal async ValueTask<int> ReadBodyAsync(Memory<byte> target, CancellationToken cancellationToken)
    {
        if (BodyEnded)
        {
            return 0;
        }

        if (framing == Framing.Chunked && left == 0)
        {
            await ReadChunkHeadAsync(cancellationToken);
            if (BodyEnded)
            {
                return 0;
            }
        }

        var want = framing == Framing.UntilClose ? target.Length : (int)Math.Min(target.Length, left);
        var count = await TakeAsync(target[..want], cancellationToken);
        if (framing == Framing.UntilClose)
        {
            BodyEnded = count == 0;
            return count;
        }

        if (count == 0)
        {
            throw new HttpWireException("The connection was closed within the body.");
        }

        left -= count;
        BodyEnded = framing == Framing.Length && left == 0;
        return count;
    }

    private async ValueTask ReadChunkHeadAsync(CancellationToken cancellationToken)
    {
        // A line end follows the data of each chunk.
        if (betweenChunks && await ReadLineAsync(2, cancellationToken) is not "")
        {
            throw new HttpWireException("A chunk is longer than it says.");
        }

        betweenChunks = true;
        var line = await ReadLineAsync(MaxChunkLineBytes, cancellationToken) ?? throw new HttpWireException("The connection was closed within the body.");
        var size = line.Split(';', 2)[0].Trim();
        if (!long.TryParse(size, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out left) || left < 0)
        {
            throw new HttpWireException("The size of a chunk is no number.");
        }

        if (left > 0)
        {
            return;
        }

        for (var budget = MaxHeadBytes; ;)
        {
            var trailer = await ReadLineAsync(budget, cancellationToken) ?? throw new HttpWireException("The connection was closed within the trailers.");
            if (trailer.Length == 0)
            {
                BodyEnded = true;
                return;
            }

            budget -= trailer.Length + 2;
        }
    }

    /// <summary>A line without its end, or null when the peer closed before its first byte.</summary>
    private async ValueTask<string?> ReadLineAsync(int limit, CancellationToken cancellationToken)
    {
        for (var searched = 0; ;)
        {
            var found = buffer.AsSpan(start + searched, end - start - searched).IndexOf((byte)'\n');
            if (found >= 0)
            {
                var length = searched + found;
                var text = Encoding.Latin1.GetString(buffer, start, length > 0 && buffer[start + length - 1] == '\r' ? length - 1 : length);
                start += length + 1;
                return text.Length <= limit ? text : throw TooLong();
            }

            searched = end - start;
            if (searched > limit)
            {
                throw TooLong();
            }

            if (!await FillAsync(cancellationToken))
            {
                return searched == 0 ? null : throw new HttpWireException("The connection was closed within a line.");
            }
        }

        static HttpWireException TooLong() => new($"The head is longer than {MaxHeadBytes} bytes.");
    }

    private async ValueTask<int> TakeAsync(Memory<byte> target, CancellationToken cancellationToken)
    {
        if (start == end)
        {
            // Large bodies go past the buffer.
            return await socket.ReceiveAsync(target, cancellationToken);
        }

        var count = Math.Min(target.Length, end - start);
        buffer.AsMemory(start, count).CopyTo(target);
        start += count;
        return count;
    }

    private async ValueTask<bool> FillAsync(CancellationToken cancellationToken)
    {
        if (start > 0)
        {
            buffer.AsSpan(start, end - start).CopyTo(buffer);
            (start, end) = (0, end - start);
        }

        if (end == buffer.Length)
        {
            Array.Resize(ref buffer, buffer.Length * 2);
        }

        var count = await socket.ReceiveAsync(buffer.AsMemory(end), cancellationToken);
        end += count;
        return count > 0;
    }
}
