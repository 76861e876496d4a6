using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;

namespace GpuTasks.Relay;

/// <summary>A whole answer of the function.</summary>
internal sealed record FunctionAnswer
{
    internal required int Status { get; init; }

    internal string FcStatus { get; init; } = "";

    internal string ContentType { get; init; } = "";

    /// <summary>Bytes of the body that were kept.</summary>
    internal long Bytes { get; init; }

    /// <summary>Position of the first of them.</summary>
    internal long From { get; init; }

    internal bool Truncated { get; init; }

    /// <summary>Whether the end of the body was told by the end of the connection alone.</summary>
    internal bool EndedByClose { get; init; }

    /// <summary>Headers, names and values in turn; null unless they were asked for.</summary>
    internal IReadOnlyList<string>? Headers { get; init; }

    internal bool IsSuccess => Status is >= 200 and < 300;
}

/// <summary>A request to the function's web server.</summary>
internal sealed record FunctionRequest(string Method, string Path)
{
    internal IReadOnlyDictionary<string, string> Headers { get; init; } = new Dictionary<string, string>();

    /// <summary>File with the body, or null for none.</summary>
    internal string? BodyPath { get; init; }

    /// <summary>The body in place of that file, if it is still coming.</summary>
    internal StreamWindow? Body { get; init; }

    /// <summary>How long that one will be, below 0 if nobody knows.</summary>
    internal long? BodyBytes { get; init; }

    /// <summary>File for the answer's body, or null to drop it.</summary>
    internal string? AnswerPath { get; init; }

    /// <summary>Takes the answer's body while it comes, if somebody reads it; then the file gets only what was not read by its end.</summary>
    internal StreamWindow? Answer { get; init; }

    /// <summary>Told what stands before the answer's body.</summary>
    internal Action<AnswerHead> OnHead { get; init; } = _ => { };

    /// <summary>Most bytes of the answer's body that are kept.</summary>
    internal long MaxAnswerBytes { get; init; }

    /// <summary>Whether the answer's headers are wanted.</summary>
    internal bool WantsHeaders { get; init; }
}

/// <summary>
/// Speaks HTTP/1.1 with the function's web server on loopback. Every request has a connection of its own: a kept one could be
/// closed by the server just when a run is sent on it, and a run must not be sent twice.
/// </summary>
internal sealed class FunctionClient(int port, IReadOnlyDictionary<string, string> headers)
{
    private const int MaxAnswerHeaderBytes = 16 * 1024;

    private static readonly string[] OwnHeaders = ["host", "connection", "content-length", "transfer-encoding", "expect", "upgrade"];

    /// <summary>Whether something accepts connections.</summary>
    internal async Task<bool> ListensAsync(CancellationToken cancellationToken)
    {
        try
        {
            using var socket = await ConnectAsync(cancellationToken);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>Sends the request and reads the whole answer. Whatever keeps the answer from being whole throws an <see cref="IOException"/> or <see cref="SocketException"/>.</summary>
    internal async Task<FunctionAnswer> SendAsync(FunctionRequest request, CancellationToken cancellationToken)
    {
        var socket = await ConnectAsync(cancellationToken);
        var sendingEnds = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        // A server may answer before it has read everything, and even close its end: the answer counts, not our sending.
        var sending = SendRequestAsync(socket, request, sendingEnds.Token);
        try
        {
            return await ReadAnswerAsync(socket, request, cancellationToken);
        }
        finally
        {
            await sendingEnds.CancelAsync();
            await sending.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            sendingEnds.Dispose();
            socket.Dispose();
        }
    }

    private async Task<Socket> ConnectAsync(CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, port), cancellationToken);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private async Task SendRequestAsync(Socket socket, FunctionRequest request, CancellationToken cancellationToken)
    {
        var length = request.BodyPath is { } path ? new FileInfo(path).Length : 0;
        var all = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (var (name, value) in headers.Concat(request.Headers))
        {
            if (HttpWriter.IsSafeHeader(name, value) && !OwnHeaders.Contains(name, StringComparer.OrdinalIgnoreCase))
            {
                all[name] = value;
            }
        }

        all["Host"] = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{port}");
        if (request.Body is { } coming)
        {
            var chunked = request.BodyBytes is null or < 0;
            all[chunked ? "Transfer-Encoding" : "Content-Length"] = chunked ? "chunked" : request.BodyBytes!.Value.ToString(CultureInfo.InvariantCulture);
            await HttpWriter.WriteHeadAsync(socket, $"{request.Method} {request.Path} HTTP/1.1", all, cancellationToken);
            try
            {
                await HttpWriter.WriteStreamAsync(socket, coming, chunked, cancellationToken);
            }
            finally
            {
                coming.Close(); // Who still has some of it need not send it.
            }

            return;
        }

        if (request.BodyPath is not null || request.Method is "POST" or "PUT")
        {
            all["Content-Length"] = length.ToString(CultureInfo.InvariantCulture);
        }

        await HttpWriter.WriteHeadAsync(socket, $"{request.Method} {request.Path} HTTP/1.1", all, cancellationToken);
        if (length > 0)
        {
            await HttpWriter.WriteFileAsync(socket, request.BodyPath!, length, cancellationToken);
        }
    }

    private static async Task<FunctionAnswer> ReadAnswerAsync(Socket socket, FunctionRequest request, CancellationToken cancellationToken)
    {
        var reader = new HttpReader(socket);
        HttpHead head;
        int status;
        do
        {
            head = await reader.ReadHeadAsync(cancellationToken) ?? throw new HttpWireException("The connection was closed without an answer.");
            status = StatusOf(head.FirstLine);
        }
        while (status is >= 100 and < 200);

        if (status is 204 or 304 || request.Method == "HEAD")
        {
            reader.ExpectNoBody();
        }
        else
        {
            reader.ExpectBody(head, untilClose: true);
        }

        request.OnHead(new AnswerHead(status, Cut(head["x-fc-status"], 100), Fitting(head.Lines)));
        if (request.Answer is { } answer)
        {
            await PassOnAsync(reader, answer, cancellationToken);
        }

        using var file = request.AnswerPath is { } path ? Box.Reuse(path) : null;
        var (from, kept, truncated) = request.Answer is { } read
            ? await KeepRestAsync(read, file, cancellationToken)
            : await ReadBodyAsync(reader, file, request.MaxAnswerBytes, cancellationToken);
        if (file is not null)
        {
            RandomAccess.SetLength(file, kept);
        }

        return new FunctionAnswer
        {
            Status = status,
            FcStatus = Cut(head["x-fc-status"], 100),
            ContentType = Cut(head["content-type"], 1000),
            Bytes = kept,
            From = from,
            Truncated = truncated,
            EndedByClose = reader.EndsByClose,
            Headers = request.WantsHeaders ? Fitting(head.Lines) : null,
        };
    }

    private static async Task PassOnAsync(HttpReader reader, StreamWindow answer, CancellationToken cancellationToken)
    {
        var buffer = new byte[64 * 1024];
        while (await reader.ReadBodyAsync(buffer, cancellationToken) is var count && count > 0)
        {
            await answer.WriteAsync(buffer.AsMemory(0, count), cancellationToken);
        }
    }

    /// <summary>What was not read by the end is kept like any answer, so that nobody has to wait for its reader.</summary>
    private static async Task<(long From, long Kept, bool Truncated)> KeepRestAsync(StreamWindow answer, SafeFileHandle? file, CancellationToken cancellationToken)
    {
        var (from, rest) = answer.Rest();
        if (file is not null && rest.Length > 0)
        {
            await Box.WriteOnceThereIsRoomAsync(file, rest, 0, cancellationToken);
        }

        return (from, rest.Length, false);
    }

    /// <summary>Keeps what fits and reads the rest away, so that the function's own sending succeeds.</summary>
    private static async Task<(long From, long Kept, bool Truncated)> ReadBodyAsync(
        HttpReader reader, SafeFileHandle? file, long limit, CancellationToken cancellationToken)
    {
        var buffer = new byte[64 * 1024];
        long kept = 0;
        var truncated = false;
        while (await reader.ReadBodyAsync(buffer, cancellationToken) is var count && count > 0)
        {
            var fits = (int)Math.Min(count, limit - kept);
            if (file is not null && fits > 0)
            {
                await Box.WriteOnceThereIsRoomAsync(file, buffer.AsMemory(0, fits), kept, cancellationToken);
            }

            kept += fits;
            truncated |= fits < count;
        }

        return (0, kept, truncated);
    }

    private static int StatusOf(string line)
    {
        var parts = line.Split(' ', 3);
        return parts.Length >= 2 && parts[0].StartsWith("HTTP/1.", StringComparison.Ordinal)
            && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var status) && status is >= 100 and <= 999
            ? status
            : throw new HttpWireException("The answer does not begin with an HTTP/1.1 status line.");
    }

    /// <summary>As many headers as a run's document may hold, which is read anew at each change.</summary>
    private static List<string> Fitting(List<string> lines)
    {
        var kept = new List<string>();
        var left = MaxAnswerHeaderBytes;
        for (var i = 0; i + 1 < lines.Count; i += 2)
        {
            if (lines[i].Length + lines[i + 1].Length <= left)
            {
                left -= lines[i].Length + lines[i + 1].Length;
                kept.Add(lines[i]);
                kept.Add(lines[i + 1]);
            }
        }

        return kept;
    }

    private static string Cut(string text, int length) => text.Length <= length ? text : text[..length];
}
