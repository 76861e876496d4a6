using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Relay;

/// <summary>The body is longer than this relay takes.</summary>
internal sealed class TooLargeException(long limit) : Exception($"The body is longer than {limit} bytes.");

/// <summary>A request on the control socket, its body still on the wire.</summary>
internal sealed class ControlRequest
{
    private readonly Socket socket;
    private readonly HttpReader reader;
    private readonly HttpHead head;
    private readonly string query;
    private bool awaitsContinue;

    internal ControlRequest(Socket socket, HttpReader reader, HttpHead head)
    {
        this.socket = socket;
        this.reader = reader;
        this.head = head;
        var parts = head.FirstLine.Split(' ');
        Method = parts[0];
        Target = parts.Length == 3 ? parts[1] : "";
        var mark = Target.IndexOf('?', StringComparison.Ordinal);
        query = mark < 0 ? "" : Target[(mark + 1)..];
        Segments = (mark < 0 ? Target : Target[..mark]).Split('/', StringSplitOptions.RemoveEmptyEntries);
    }

    internal string Method { get; }

    internal string Target { get; }

    internal string[] Segments { get; }

    /// <summary>Settles how the body is framed. Throws when the request is not one that can be served.</summary>
    internal void Begin(long maxBodyBytes)
    {
        if (!Target.StartsWith('/') || !head.FirstLine.EndsWith("HTTP/1.1", StringComparison.Ordinal))
        {
            throw new HttpWireException("The first line is no HTTP/1.1 request.");
        }

        reader.ExpectBody(head, untilClose: false);
        awaitsContinue = head["expect"].Equals("100-continue", StringComparison.OrdinalIgnoreCase) && !reader.BodyEnded;
        if (head.ContentLength > maxBodyBytes)
        {
            throw new TooLargeException(maxBodyBytes);
        }
    }

    /// <summary>A whole number of the query; false when it is none.</summary>
    internal bool TryNumber(string name, long otherwise, out long value)
    {
        value = otherwise;
        foreach (var pair in query.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            if (equals > 0 && pair.AsSpan(0, equals).SequenceEqual(name))
            {
                return long.TryParse(pair.AsSpan(equals + 1), NumberStyles.None, CultureInfo.InvariantCulture, out value);
            }
        }

        return true;
    }

    /// <summary>The order in the header, or null when it cannot be one.</summary>
    internal RunOrder? Order()
    {
        try
        {
            var order = JsonSerializer.Deserialize(Convert.FromBase64String(head["x-gputasks-order"]), Json.Default.RunOrder);
            return order is not null
                && order.LimitMs is > 0 and <= int.MaxValue
                && (order.BodyBytes is null || order.Streams)
                && HttpWriter.IsSafeTarget(order.Path)
                && order.Method.Length is > 0 and <= 20 && order.Method.All(char.IsAsciiLetterUpper)
                && order.Headers.All(header => HttpWriter.IsSafeHeader(header.Key, header.Value))
                ? order
                : null;
        }
        catch (Exception e) when (e is FormatException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Reads the body into memory.</summary>
    internal async Task<byte[]> ReadBodyAsync(int maxBodyBytes, TimeSpan stall)
    {
        await ContinueAsync();
        using var body = new MemoryStream();
        await ReadAsync(stall, part =>
        {
            if (body.Length + part.Length > maxBodyBytes)
            {
                throw new TooLargeException(maxBodyBytes);
            }

            body.Write(part.Span);
            return true;
        });
        return body.ToArray();
    }

    /// <summary>Writes the body to a file.</summary>
    internal async Task SaveBodyAsync(string path, long maxBodyBytes, TimeSpan stall)
    {
        await ContinueAsync();
        using var file = Box.Reuse(path);
        long length = 0;
        await ReadAsync(stall, part =>
        {
            if (length + part.Length > maxBodyBytes)
            {
                throw new TooLargeException(maxBodyBytes);
            }

            RandomAccess.Write(file, part.Span, length);
            length += part.Length;
            return true;
        });
        RandomAccess.SetLength(file, length);
    }

    /// <summary>Reads what is left of the body, so that the caller, who may still be sending, gets to read the answer; false when it is too much.</summary>
    internal async Task<bool> SkipBodyAsync(long limit, TimeSpan stall)
    {
        if (awaitsContinue)
        {
            return false;
        }

        try
        {
            long skipped = 0;
            await ReadAsync(stall, part => (skipped += part.Length) <= limit);
            return reader.BodyEnded;
        }
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException)
        {
            return false;
        }
    }

    private async Task ContinueAsync()
    {
        if (awaitsContinue)
        {
            awaitsContinue = false;
            await HttpWriter.WriteAsync(socket, Encoding.ASCII.GetBytes("HTTP/1.1 100 Continue\r\n\r\n"), CancellationToken.None);
        }
    }

    private async Task ReadAsync(TimeSpan stall, Func<ReadOnlyMemory<byte>, bool> take)
    {
        var buffer = new byte[64 * 1024];
        using var limit = new CancellationTokenSource();
        while (true)
        {
            limit.CancelAfter(stall);
            var count = await reader.ReadBodyAsync(buffer, limit.Token);
            if (count == 0 || !take(buffer.AsMemory(0, count)))
            {
                return;
            }
        }
    }
}
