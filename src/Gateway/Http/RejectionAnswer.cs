using System.Globalization;
using System.IO.Pipelines;
using System.Text;
using Microsoft.AspNetCore.Connections;

namespace GpuTasks.Gateway.Http;

/// <summary>
/// What the server refuses before there is a request (a path with NUL, a header without end, no host) it answers with a
/// bare status, and clients fail on an error without JSON. The server offers no hook for that answer, so it is given its
/// body on the connection, where it is recognised by what all of ours carry and it does not.
/// </summary>
internal static class RejectionAnswer
{
    public static async Task OnConnectionAsync(ConnectionDelegate next, ConnectionContext connection)
    {
        var transport = connection.Transport;
        connection.Transport = new Pipes(transport.Input, new Writer(transport.Output));
        try
        {
            await next(connection);
        }
        finally
        {
            connection.Transport = transport;
        }
    }

    /// <summary>The answer with id and body, or null if it is none of the server's bare ones.</summary>
    public static byte[]? WithBody(ReadOnlySpan<byte> answer)
    {
        if (!(answer.StartsWith("HTTP/1.1 4"u8) || answer.StartsWith("HTTP/1.1 505"u8)) || !answer.EndsWith("\r\n\r\n"u8)
            || answer.IndexOf("\r\nContent-Length: 0\r\n"u8) < 0 || answer.IndexOf("\r\nX-Fc-Request-Id: "u8) >= 0)
        {
            return null;
        }

        var head = Encoding.ASCII.GetString(answer[..^2]);
        var id = RequestShell.NewRequestId();
        var status = int.Parse(head.AsSpan(9, 3), NumberStyles.None, CultureInfo.InvariantCulture);
        var message = status == StatusCodes.Status408RequestTimeout
            ? "The request did not arrive in time."
            : "The request is not well-formed HTTP: its request line, host or headers cannot be read.";
        var body = $$"""{"Code":"InvalidArgument","Message":"{{message}}","RequestId":"{{id}}"}""";
        return Encoding.ASCII.GetBytes(
            head.Replace("\r\nContent-Length: 0\r\n", $"\r\nContent-Length: {body.Length}\r\nContent-Type: application/json; charset=utf-8\r\n", StringComparison.Ordinal)
            + $"{RequestShell.RequestIdHeader}: {id}\r\n\r\n{body}");
    }

    private sealed record Pipes(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    /// <summary>Passes everything on, and looks only at writes that start like an error of the server.</summary>
    private sealed class Writer(PipeWriter inner) : PipeWriter
    {
        private Memory<byte> rented;

        public override bool CanGetUnflushedBytes => inner.CanGetUnflushedBytes;

        public override long UnflushedBytes => inner.UnflushedBytes;

        public override Memory<byte> GetMemory(int sizeHint = 0) => rented = inner.GetMemory(sizeHint);

        public override Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

        public override void Advance(int bytes)
        {
            var written = bytes <= rented.Length ? rented.Span[..bytes] : default;
            if (WithBody(written) is { } whole && whole.Length <= rented.Length)
            {
                whole.CopyTo(rented);
                bytes = whole.Length;
            }

            rented = default;
            inner.Advance(bytes);
        }

        public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default) => inner.FlushAsync(cancellationToken);

        public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default) => inner.WriteAsync(source, cancellationToken);

        public override void CancelPendingFlush() => inner.CancelPendingFlush();

        public override void Complete(Exception? exception = null) => inner.Complete(exception);

        public override ValueTask CompleteAsync(Exception? exception = null) => inner.CompleteAsync(exception);
    }
}
